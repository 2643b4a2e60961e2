"""What annotators match with: operators by name, and matchers made of small ones.

A matcher is a function from a node to a :class:`~qreg.model.Match`, or None if its pattern does not
start there. It only looks; it never changes the graph. The cost of a match is the size of its
pattern, whatever the size of the graph.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

from qreg.model import Match, Matcher

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, Node


@lru_cache(maxsize=4096)
def operator_name(target: Any) -> str:
    """An operator's name in its functional form: ``aten.add_.Tensor`` gives ``aten.add.Tensor``.

    A name without an overload, as an ``OpOverloadPacket`` has, stays without.
    """
    namespace, _, rest = str(target).partition(".")
    name, dot, overload = rest.partition(".")
    if name.endswith("_") and not name.startswith("_"):
        name = name.removesuffix("_")
    return f"{namespace}.{name}{dot}{overload}"


def is_in_place(node: Node) -> bool:
    """Whether an operator writes to what it is called on, as ``aten.add_.Tensor`` does."""
    return str(node.target) != operator_name(node.target)


class GraphIndex:
    """The operators of a graph by name, and its constants, read in one walk.

    ``is_state`` tells which nodes have the memory of a buffer that the graph writes to.
    """

    def __init__(self, graph: Graph, is_state: Callable[[Node], bool] = lambda node: False) -> None:
        self.position: dict[Node, int] = {}
        self.constants: set[Node] = set()
        self._by_operator: dict[str, list[Node]] = defaultdict(list)
        for position, node in enumerate(graph.nodes):
            self.position[node] = position
            if _follows_constants(node, self.constants) and not is_state(node):
                self.constants.add(node)
            if node.op == "call_function":
                self._by_operator[operator_name(node.target)].append(node)

    def starting(self, operators: Iterable[str]) -> Iterator[Node]:
        """The nodes of these operators, in the order of the graph."""
        found = (self._by_operator[name] for name in operators if name in self._by_operator)
        return heapq.merge(*found, key=self.position.__getitem__)


def _follows_constants(node: Node, constants: set[Node]) -> bool:
    if node.op == "get_attr":
        return True
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and constants.issuperset(inputs)


def sole_user(node: Node) -> Node | None:
    """The one user of a node, or None if it has none or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def is_constant(node: Node) -> bool:
    """Whether a node is a parameter or buffer, or computed from these alone.

    Looks back until it meets an input of the graph; ``GraphIndex.constants`` has them all.
    """
    waiting, seen = [node], {node}
    while waiting:
        each = waiting.pop()
        if each.op != "get_attr" and (each.op != "call_function" or not each.all_input_nodes):
            return False
        fresh = [source for source in each.all_input_nodes if source not in seen]
        seen.update(fresh)
        waiting += fresh
    return True


def tensor_at(node: Node) -> Tensor:
    """The parameter or buffer that a ``get_attr`` node reads."""
    owner, _, name = str(node.target).rpartition(".")
    module = node.graph.owning_module
    assert module is not None
    found: Tensor = getattr(module.get_submodule(owner), name)
    return found


def argument(node: Node, position: int) -> Any:
    """A positional argument, or None where the call leaves it to its default."""
    return node.args[position] if position < len(node.args) else None


def operands(*positions: int) -> Matcher:
    """One operator whose arguments at ``positions`` are all tensors of the graph."""

    def match(node: Node) -> Match | None:
        inputs = [argument(node, position) for position in positions]
        return Match((node,), _distinct(inputs)) if all(map(is_node, inputs)) else None

    return match


def listed(position: int = 0) -> Matcher:
    """One operator whose argument at ``position`` is a list of tensors, as that of ``cat``."""

    def match(node: Node) -> Match | None:
        inputs = argument(node, position)
        return Match((node,), _distinct(inputs)) if inputs and all(map(is_node, inputs)) else None

    return match


def weighted(activation: int = 0, weight: int = 1, bias: int = 2) -> Matcher:
    """One operator with an activation, a weight and perhaps a bias at these positions."""

    def match(node: Node) -> Match | None:
        entering, factor = argument(node, activation), argument(node, weight)
        if not (is_node(entering) and is_node(factor)):
            return None
        return Match((node,), (entering,), factor, argument(node, bias))

    return match


def leading(matcher: Matcher, operators: Iterable[str]) -> Matcher:
    """One operator on one tensor, and behind it what ``matcher`` finds at one of ``operators``.

    What enters the match is what enters the first operator.
    """
    names = frozenset(operators)

    def match(node: Node) -> Match | None:
        first, user = operands(0)(node), sole_user(node)
        if first is None or user is None or operator_name(user.target) not in names:
            return None
        found = matcher(user)
        if found is None or found.inputs != (node,):
            return None
        return Match((node, *found.nodes), first.inputs, found.weight, found.bias)

    return match


def fused(head: Matcher, *followers: Iterable[str]) -> Matcher:
    """``head``, and behind it one operator out of each of ``followers``.

    Nothing else may use what flows between them, since a backend that fuses them computes it
    nowhere.
    """
    chain = [frozenset(names) for names in followers]

    def match(node: Node) -> Match | None:
        found = head(node)
        for names in chain:
            if found is None:
                return None
            found = _extended(found, names)
        return found

    return match


def traced(
    function: Callable[..., Any],
    example_inputs: Sequence[Any],
    operators: Iterable[str],
    *,
    weight: str | None = None,
    bias: str | None = None,
    literals: bool = False,
) -> Matcher:
    """What a plain function computes, such as ``lambda x, w, b: F.relu(F.linear(x, w, b))``.

    ``operators`` are all operators of the pattern, the last one being the one that gives its
    output and that an annotator has as its target. The function is traced on ``example_inputs``
    once in a process, and never for a graph that lacks one of the operators. ``weight`` and
    ``bias`` name the parameters that are constants of the model; with ``bias``, the pattern is
    found without one too. ``literals`` says whether numbers in the calls must be the same.

    Raises ``ConfigError``, when it is traced, if ``operators`` does not have all of them.
    """
    names = tuple(operators)
    pattern = None

    def match(node: Node) -> Match | None:
        nonlocal pattern
        if pattern is None:
            from qreg.tracing import TracedPattern

            inputs = tuple(example_inputs)
            pattern = TracedPattern(function, inputs, names, weight, bias, literals)
        return pattern(node)

    return match


def _extended(found: Match, names: frozenset[str]) -> Match | None:
    user = sole_user(found.output)
    if user is None or user.op != "call_function" or operator_name(user.target) not in names:
        return None
    return Match((*found.nodes, user), found.inputs, found.weight, found.bias)


def _distinct(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(nodes))


def is_node(value: object) -> TypeGuard[Node]:
    """Whether an argument of a call is a node of the graph."""
    from torch.fx import Node

    return isinstance(value, Node)
