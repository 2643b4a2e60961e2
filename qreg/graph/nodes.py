"""Inspect single nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeGuard

from attrs import define

from qreg.graph.operators import PERMUTES
from qreg.graph.walks import reachable
from qreg.plugins.operator_names import operator_name as operator_name

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, Node


def is_in_place(node: Node) -> bool:
    """Whether an operator writes to its first argument, as ``aten.add_.Tensor`` does."""
    return str(node.target) != operator_name(node.target)


def computes_tensors(node: Node) -> bool:
    """Whether a node is an operator that returns tensors; assertions and symbolic sizes are not."""
    if node.op != "call_function":
        return False
    import torch

    if not isinstance(node.target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator)):
        return False
    values = node.meta.get("val")
    listed = values if isinstance(values, (tuple, list)) else (values,)
    return any(isinstance(value, torch.Tensor) for value in listed)


def called(node: Node) -> str:
    """Return the name of the operator that a node calls, ``""`` for a node that calls none."""
    return operator_name(node.target) if node.op == "call_function" else ""


def calls(graph: Graph, operators: Collection[str]) -> list[Node]:
    """Return the calls of operators with these names, to loop over while the graph changes."""
    return [node for node in graph.nodes if called(node) in operators]


def sole_user(node: Node) -> Node | None:
    """Return the only user of a node, or None if the node has no users or several."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def is_constant(node: Node) -> bool:
    """Whether a node is a parameter or buffer, or computed from these alone.

    Walks upstream until it reaches an input of the graph, unless the graph is :func:`unchanged`.
    """
    known = _unchanged.get()
    if known is not None and known.graph is node.graph:
        return node in known.constants
    return all(follows_constants(each, each.all_input_nodes) for each in reachable([node], sources))


def follows_constants(node: Node, constants: Collection[Node]) -> bool:
    """Whether a node is a constant, given the constants upstream of it."""
    if node.op == "get_attr":
        return True
    inputs = node.all_input_nodes
    if node.op != "call_function" or not inputs or is_random(node.target):
        return False
    return all(each in constants for each in inputs)


def constants_of(graph: Graph, is_state: Callable[[Node], bool] = lambda node: False) -> set[Node]:
    """Return the nodes of a graph that are constants (:func:`is_constant`), in one walk.

    ``is_state`` reports whether a node shares the memory of a buffer that the graph writes to,
    which is then no constant.
    """
    found: set[Node] = set()
    for node in graph.nodes:
        if follows_constants(node, found) and not is_state(node):
            found.add(node)
    return found


@contextmanager
def unchanged(graph: Graph) -> Iterator[None]:
    """Find the constants of a graph once: the operators of the graph must not change meanwhile."""
    token = _unchanged.set(_Unchanged(graph))
    try:
        yield
    finally:
        _unchanged.reset(token)


@define(eq=False, slots=False)
class _Unchanged:
    graph: Graph

    @cached_property
    def constants(self) -> set[Node]:
        return constants_of(self.graph)


_unchanged: ContextVar[_Unchanged | None] = ContextVar("a graph that does not change", default=None)


def sources(node: Node) -> list[Node]:
    """Return the nodes that a node reads; ``reachable([node], sources)`` are all it depends on."""
    return node.all_input_nodes


@lru_cache(maxsize=4096)
def is_random(target: Any) -> bool:
    """Whether an operator returns other values in each call, such as ``aten.rand``."""
    import torch

    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def tensor_at(node: Node) -> Tensor:
    """Return the parameter or buffer that a ``get_attr`` node reads."""
    found: Tensor = attrgetter(str(node.target))(node.graph.owning_module)
    return found


def argument(node: Node, position: int) -> Any:
    """Return a positional argument, or None if the call does not pass it."""
    return node.args[position] if position < len(node.args) else None


def is_node(value: object) -> TypeGuard[Node]:
    """Whether an argument of a call is a node of the graph."""
    import torch

    return isinstance(value, torch.fx.Node)


def shape_of(node: Node | None) -> list[Any]:
    assert node is not None
    return list(node.meta["val"].shape)


def order_of(node: Node) -> list[int] | None:
    """Return the order in which a permutation puts dimensions; None for another operator."""
    name = called(node)
    if name not in PERMUTES:
        return None
    order = list(range(node.meta["val"].dim()))
    if name == "aten.permute.default":
        return [order[place] for place in argument(node, 1)]
    if name == "aten.t.default":  # of two dimensions or fewer
        return order[::-1]
    one, other = (argument(node, place) for place in (1, 2))
    order[one], order[other] = order[other], order[one]
    return order
