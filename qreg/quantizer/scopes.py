"""Which config applies to a node: by call, module name, module type, operator, or everywhere.

The most specific scope wins: a call over a name over a type over an operator over everywhere, the
longer of two names, the inner of two types. ``None`` as a config keeps the scope in float, with the
same precedence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from attrs import define, field, frozen

from qreg.errors import UnknownCallError, UnknownModuleError, UnknownOperatorWarning, near
from qreg.graph.layers import part_of
from qreg.graph.nodes import computes_tensors
from qreg.graph.provenance import folded_modules, module_path, module_stack, operators_of
from qreg.plugins.operator_names import operator_name
from qreg.quantizer.ordinals import UNNUMBERED, Address, Ordinals

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg.plugins.types.backend import Mode


SOME = 5  # names that an error lists
Level = Literal["call", "name", "type", "operator", "global"]


@frozen(eq=False)
class Choice:
    """The config of a scope; ``config`` is None if the scope stays in float."""

    level: Level
    scope: str
    label: str
    config: QuantizationConfig | None
    mode: Mode | None

    def __str__(self) -> str:
        if self.level == "global":
            return "the global config"
        return self.scope if self.level == "call" else f"{self.level} {self.scope!r}"

    def covers(self, other: Choice | None) -> bool:
        """Whether a pattern that starts under this choice may include a node under ``other``.

        A choice by operator or call names the operator that a pattern starts from, so it applies to
        the rest of the pattern too, unless a scope more specific than the global config differs.
        """
        if self.level in ("operator", "call") and (other is None or other.level == "global"):
            return True
        return other is not None and _same(self.config, other.config)


@define
class Scopes:
    """The choices that a user made, and the lookup of the choice for a node.

    ``calls`` are those for single calls of operators. They also apply to the rest of the pattern
    that contains the call.
    """

    names: dict[str, Choice] = field(factory=dict)
    types: dict[str, Choice] = field(factory=dict)
    operators: dict[str, Choice] = field(factory=dict)
    everywhere: Choice | None = None
    calls: dict[Address, Choice] = field(factory=dict)
    ordinals: Ordinals = field(factory=Ordinals, init=False)
    _along: WeakKeyDictionary[Graph, dict[str, Choice]] = field(
        factory=WeakKeyDictionary, init=False
    )
    _by_place: dict[tuple[str, bool], Choice | None] = field(factory=dict, init=False)

    def forget(self) -> None:
        """Clear the cached lookups, for a new graph or a new choice."""
        self._by_place.clear()

    def copy(self) -> Scopes:
        """Return an independent copy of the choices."""
        return Scopes(
            dict(self.names),
            dict(self.types),
            dict(self.operators),
            self.everywhere,
            dict(self.calls),
        )

    def without_calls(self) -> Scopes:
        """Return a copy without the choices for single calls."""
        return Scopes(dict(self.names), dict(self.types), dict(self.operators), self.everywhere)

    def extend(self, graph: Graph, patterns: Iterable[Sequence[Node]]) -> None:
        """Apply each choice for a call to the pattern that contains the call.

        ``patterns`` are those of a graph under the other scopes. A pattern of which two operators
        have different choices is not affected.
        """
        along = self._along[graph] = {}
        for nodes in patterns:
            chosen = [choice for node in nodes if (choice := self._by_call(node))]
            if chosen and all(_same(each.config, chosen[0].config) for each in chosen):
                along.update({node.name: chosen[0] for node in nodes})

    def choices(self) -> Iterator[Choice]:
        """Yield all choices that were made."""
        for each in (self.calls, self.names, self.types, self.operators):
            yield from each.values()
        if self.everywhere is not None:
            yield self.everywhere

    def choice(self, node: Node) -> Choice | None:
        """Return the choice for a node, or None if no scope covers it."""
        return (self._by_call(node) if self.calls else None) or self._by_scope(node)

    def _by_call(self, node: Node) -> Choice | None:
        for address in self.ordinals.addresses(node):
            if address in self.calls:
                return self.calls[address]
        return self._along.get(node.graph, {}).get(node.name)

    def _by_scope(self, node: Node) -> Choice | None:
        return self._by_module(node) or self._by_operator(node) or self.everywhere

    def _by_module(self, node: Node) -> Choice | None:
        if not (self.names or self.types):
            return None
        place = module_path(node), bool(node.meta.get("nn_module_stack"))
        if place not in self._by_place:
            self._by_place[place] = self._by_name(place[0]) or self._by_type(node)
        return self._by_place[place]

    def _by_name(self, path: str) -> Choice | None:
        if not self.names:
            return None
        return next((self.names[name] for name in _enclosing(path) if name in self.names), None)

    def _by_type(self, node: Node) -> Choice | None:
        if not self.types:
            return None
        inner_first = reversed([type_ for _, type_ in module_stack(node)])
        return next((self.types[type_] for type_ in inner_first if type_ in self.types), None)

    def _by_operator(self, node: Node) -> Choice | None:
        if not self.operators:
            return None
        for name in _operators(node):
            found = self.operators.get(name) or self.operators.get(name.rpartition(".")[0])
            if found is not None:
                return found
        return None

    def unknown(self, graph_modules: Iterable[GraphModule]) -> Iterator[UnknownModuleError]:
        """Yield an error for each module name and type that no operator belongs to."""
        if not (self.names or self.types):
            return
        stacks: dict[str, list[tuple[str, str]]] = {}
        folded: dict[str, str] = {}
        for node in (node for each in graph_modules for node in each.graph.nodes):
            folded |= dict.fromkeys(folded_modules(node), module_path(node))
            if node.meta.get("nn_module_stack") and (path := module_path(node)) not in stacks:
                stacks[path] = module_stack(node)
        paths = {path for inner in stacks for path in _enclosing(inner)}
        types = {type_ for stack in stacks.values() for _, type_ in stack}
        for kind, wanted, known in (("name", self.names, paths), ("type", self.types, types)):
            for name in wanted:
                if name not in known:
                    some = sorted(known - {""})[:SOME]
                    alike = _near(name, known)
                    yield UnknownModuleError(kind, name, alike, folded.get(name), some)

    def unknown_calls(self) -> Iterator[UnknownCallError]:
        """Yield an error for each call that the graphs with ordinals do not have."""
        if not self.calls:
            return
        counts = self.ordinals.counts()
        for module, operator, ordinal in self.calls:
            if ordinal >= counts.get((module, operator), 0):
                yield UnknownCallError(module, operator, ordinal, counts)

    def ordinal(self, node: Node, operator: str) -> int:
        """Return the ordinal of a call among those of an operator in its module."""
        wanted = operator_name(operator)
        for _, name, number in self.ordinals.addresses(node):
            if name == wanted:
                return number
        return UNNUMBERED

    def unused(self, graph_modules: Iterable[GraphModule]) -> Iterator[UnknownOperatorWarning]:
        """Yield a warning for each operator that the graphs do not have."""
        if not self.operators:
            return
        nodes = (node for each in graph_modules for node in each.graph.nodes)
        known = {name for node in nodes if computes_tensors(node) for name in _operators(node)}
        packets = {name.rpartition(".")[0] for name in known}
        for name in self.operators:
            if name not in known | packets:
                yield UnknownOperatorWarning(name, known)


def _operators(node: Node) -> list[str]:
    """Return the operators of a node, and that of the layer that it is a part of."""
    part = part_of(node)
    return [*operators_of(node), *([part.layer] if part else [])]


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Return the names nearest to one, also by their last parts: users omit a type's package."""
    by_end = {each.rpartition(".")[2]: each for each in known if each}
    ends = near(name.rpartition(".")[2], by_end)
    return list(dict.fromkeys([*near(name, known), *(by_end[end] for end in ends)]))


def _same(one: QuantizationConfig | None, other: QuantizationConfig | None) -> bool:
    if one is other or one is None or other is None:
        return one is other
    from qreg.configs.validation import equivalent

    return equivalent(one, other)


def _enclosing(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""
