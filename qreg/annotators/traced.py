"""Patterns written as plain functions, matched in graphs without a search.

The function is traced once per process, and only if a graph has all operators of the pattern. The
trace is compared with a graph backwards from the output. Each argument leads to one node, so the
cost of a match is proportional to the size of the pattern.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from qreg.errors import ConfigError
from qreg.graph.nodes import is_node
from qreg.plugins.operator_names import operator_name
from qreg.plugins.types.annotator import Match

if TYPE_CHECKING:
    from torch.fx import Graph, Node


@frozen
class Trace:
    """The graph of one variant of a pattern: its operators, and its parameters by name."""

    operators: tuple[Node, ...]
    parameters: tuple[tuple[str, Node], ...]

    @property
    def output(self) -> Node:
        return self.operators[-1]


@define
class TracedPattern:
    """A matcher for what ``function`` computes; see :func:`qreg.patterns.traced`."""

    function: Callable[..., Any]
    example_inputs: tuple[Any, ...]
    operators: tuple[str, ...]
    weight: str | None
    bias: str | None
    literals: bool
    _traces: list[Trace] | None = None

    def __call__(self, node: Node) -> Match | None:
        """Return the match that ends at ``node``, or None."""
        if not _has_all(node.graph, self.operators):
            return None
        found = (self._find(trace, node) for trace in self.traces())
        return next(filter(None, found), None)

    def traces(self) -> list[Trace]:
        """Return the traces of the pattern: with its bias, and without."""
        if self._traces is None:
            without = [self._trace(self.bias)] if self.bias else []
            self._traces = [self._trace(None), *without]
        return self._traces

    def _trace(self, omitted: str | None) -> Trace:
        names = list(inspect.signature(self.function).parameters)
        inputs = dict(zip(names, self.example_inputs, strict=True))
        if omitted is not None:
            inputs[omitted] = None
        trace = _traced(self.function, inputs)
        used = {operator_name(node.target) for node in trace.operators}
        if not used <= set(self.operators):
            raise ConfigError(
                f"pattern: its operators are {', '.join(sorted(used))} (expected "
                f"{', '.join(self.operators)}). Pass all of them in operators=[...]."
            )
        return trace

    def _find(self, trace: Trace, node: Node) -> Match | None:
        bound: dict[Node, Node] = {}
        if not self._same(trace.output, node, bound):
            return None
        inside = [bound[operator] for operator in trace.operators]
        if any(user not in inside for each in inside[:-1] for user in each.users):
            return None
        roles = {name: bound[parameter] for name, parameter in trace.parameters}
        constants = (self.weight, self.bias)
        inputs = tuple(dict.fromkeys(v for name, v in roles.items() if name not in constants))
        weight, bias = (roles.get(name) if name else None for name in constants)
        return Match(tuple(inside), inputs, weight, bias)

    def _same(self, pattern: Node, node: Node, bound: dict[Node, Node]) -> bool:
        if pattern in bound:
            return bound[pattern] is node
        bound[pattern] = node
        if pattern.op == "placeholder":
            return True
        return (
            node.op == "call_function"
            and operator_name(node.target) == operator_name(pattern.target)
            and self._same_arguments(pattern.args, node.args, bound)
        )

    def _same_arguments(
        self, wanted: Sequence[Any], given: Sequence[Any], bound: dict[Node, Node]
    ) -> bool:
        length = max(len(wanted), len(given))
        pairs = zip(_padded(wanted, length), _padded(given, length), strict=True)
        return all(self._same_argument(one, other, bound) for one, other in pairs)

    def _same_argument(self, wanted: Any, given: Any, bound: dict[Node, Node]) -> bool:
        if is_node(wanted) and is_node(given):
            return self._same(wanted, given, bound)
        if is_node(wanted) or is_node(given):
            return False
        if isinstance(wanted, (list, tuple)) and isinstance(given, (list, tuple)):
            return self._same_arguments(wanted, given, bound)
        return not self.literals or wanted == given


def _padded(values: Sequence[Any], length: int) -> list[Any]:
    return [*values, *[None] * (length - len(values))]


def _traced(function: Callable[..., Any], inputs: dict[str, Any]) -> Trace:
    import torch

    given = {name: value for name, value in inputs.items() if value is not None}

    class Pattern(torch.nn.Module):
        def forward(self, *tensors: Any) -> Any:
            by_name = dict(zip(given, tensors, strict=True))
            return function(*(by_name.get(name) for name in inputs))

    with torch.no_grad():
        graph = torch.export.export(Pattern().eval(), tuple(given.values())).graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    operators = tuple(node for node in graph.nodes if node.op == "call_function")
    return Trace(operators, tuple(zip(given, placeholders, strict=True)))


def _has_all(graph: Graph, operators: Sequence[str]) -> bool:
    return all(
        any(graph.find_nodes(op="call_function", target=target) for target in _overloads(name))
        for name in operators
    )


@functools.cache
def _overloads(name: str) -> tuple[Any, ...]:
    """Return the operator of this name and its in-place form, if torch has them."""
    import torch

    namespace, packet, overload = name.split(".")
    library = getattr(torch.ops, namespace)
    packets = (getattr(library, spelled, None) for spelled in (packet, f"{packet}_"))
    return tuple(getattr(each, overload) for each in packets if hasattr(each, overload))
