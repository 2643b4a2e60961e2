"""Track where a ``cat`` joins its inputs, and which slices extract one of them."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qreg.graph.nodes import argument, called, order_of
from qreg.graph.operators import CAT, CLAMPS, RELU, SLICE
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Node


IN_PLACE = frozenset({*CLAMPS, *RELU, *SLICE})  # operators that keep values in their positions


@frozen
class JoinedDimension:
    """The dimension along which a ``cat`` joins its inputs, and the positions where they meet.

    ``bounds`` are in elements, the first 0 and the last the size of the dimension.
    """

    dimension: int
    bounds: tuple[int, ...]

    @classmethod
    def of(cls, node: Node) -> JoinedDimension | None:
        """Return the joined dimension of a ``cat``; None for other operators and dynamic sizes."""
        if called(node) not in CAT:
            return None
        inputs: Any = node.args[0]
        dimension = (argument(node, 1) or 0) % node.meta["val"].dim()
        sizes = [each.meta["val"].shape[dimension] for each in inputs]
        if not all(isinstance(size, int) for size in sizes):
            return None
        return cls(dimension, tuple(accumulate(sizes, initial=0)))

    def through(self, node: Node) -> JoinedDimension | None:
        """Return the joined dimension of an operator's output; None if values may be rearranged."""
        name, order = operator_name(node.target), order_of(node)
        if order is not None:
            return evolve(self, dimension=order.index(self.dimension))
        if name in SLICE and self._cut_by(node):
            return None
        return self if name in IN_PLACE else None

    def is_taken_apart_by(self, node: Node) -> bool:
        """Whether an operator is a slice within one of the inputs."""
        if operator_name(node.target) not in SLICE or not self._cut_by(node):
            return False
        ends = argument(node, 2), argument(node, 3)
        if not all(end is None or isinstance(end, int) for end in ends):
            return False
        start, end, _ = slice(*ends).indices(self.bounds[-1])
        return any(low <= start and end <= high for low, high in pairwise(self.bounds))

    def _cut_by(self, node: Node) -> bool:
        dimension: int = (argument(node, 1) or 0) % node.meta["val"].dim()
        return dimension == self.dimension
