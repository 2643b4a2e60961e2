"""An index of the operators of a graph by name, and of its constant values."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from qreg.graph.nodes import called, follows_constants, is_random
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Graph, Node


SIZES = frozenset({"aten.sym_size.int", "aten.sym_numel.default", "aten.sym_stride.int"})
CASTS = frozenset({"aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout"})


class GraphIndex:
    """The operators of a graph by name, and facts about its values, collected in one walk.

    ``constants`` are computed from parameters and buffers alone. ``fixed`` are the constants, and
    values that are computed from numbers and sizes: positions, for example. ``counts`` are floats
    that are only rounded to integers: indices of a table, for example. ``is_state`` reports
    whether a node shares the memory of a buffer that the graph writes to.
    """

    def __init__(self, graph: Graph, is_state: Callable[[Node], bool] = lambda node: False) -> None:
        self.position: dict[Node, int] = {}
        self.constants: set[Node] = set()
        self.fixed: set[Node] = set()
        self._by_operator: dict[str, list[Node]] = defaultdict(list)
        for position, node in enumerate(graph.nodes):
            self.position[node] = position
            if _is_fixed(node, self.fixed) and not is_state(node):
                self.fixed.add(node)
                if follows_constants(node, self.constants):
                    self.constants.add(node)
            if node.op == "call_function":
                self._by_operator[operator_name(node.target)].append(node)
        casts = any(map(_is_cast_to_integers, self.starting(CASTS)))
        self.counts = _counts(graph) if casts else set()

    def starting(self, operators: Iterable[str]) -> Iterator[Node]:
        """Return the nodes of these operators, in the order of the graph."""
        found = (self._by_operator[name] for name in operators if name in self._by_operator)
        return heapq.merge(*found, key=self.position.__getitem__)


def _is_fixed(node: Node, fixed: set[Node]) -> bool:
    """Whether a node has the same value for every input of the same sizes."""
    if node.op == "get_attr" or operator_name(node.target) in SIZES:
        return True
    return (
        node.op == "call_function"
        and not is_random(node.target)
        and fixed.issuperset(node.all_input_nodes)
    )


def _counts(graph: Graph) -> set[Node]:
    """Find the pointwise operators on floats whose results are only cast to integers.

    The results may pass through other operators of this kind ahead of the cast.
    """
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        readers = [user for user in node.users if not _only_checks(user)]
        if _is_pointwise(node) and readers and all(map(_rounds(found), readers)):
            found.add(node)
    return found


def _only_checks(node: Node) -> bool:
    """Whether an operator returns nothing: ``export`` has the type checked ahead of each cast."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and not schema.returns


def _rounds(counts: set[Node]) -> Callable[[Node], bool]:
    return lambda user: user in counts or _is_cast_to_integers(user)


def _is_pointwise(node: Node) -> bool:
    import torch

    return torch.Tag.pointwise in getattr(node.target, "tags", ()) and not _is_integer(node)


def _is_cast_to_integers(node: Node) -> bool:
    return called(node) in CASTS and _is_integer(node)


def _is_integer(node: Node) -> bool:
    import torch

    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and not value.dtype.is_floating_point
