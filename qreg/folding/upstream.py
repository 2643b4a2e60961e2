"""Find the layer whose output a norm reads, directly or through views.

A norm over flattened tokens, or between two transpositions, has the channels of its layer on
another axis than the layer's output has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.graph.nodes import called, order_of, shape_of
from qreg.graph.operators import ADDMM, CONV, COPIES, LINEAR, PERMUTES, RESHAPES, TRANSPOSED

if TYPE_CHECKING:
    from torch.fx import Node

PADDED = ("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
WEIGHTED = frozenset({*CONV, *PADDED, *TRANSPOSED, *LINEAR, *ADDMM})
SHAPED_LIKE = ("aten.reshape_as.default", "aten.view_as.default", "aten.expand_as.default")
IN_ORDER = frozenset(
    {
        *(*RESHAPES, *COPIES, "aten.reshape_as.default", "aten.view_as.default"),
        *("aten.unflatten.int", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims"),
        *("aten.unsqueeze.default", "aten._unsafe_view.default"),
    }
)
VIEWS = IN_ORDER | {*PERMUTES}


@frozen
class Upstream:
    """A layer, and the views between the layer and a norm, from the layer to the norm."""

    layer: Node
    views: tuple[Node, ...]

    @classmethod
    def of(cls, norm: Node, entering: Node) -> Upstream | None:
        """Return the layer that a norm reads; None if others read it, or if there is none."""
        views: list[Node] = []
        node, reader = entering, norm
        while list(readers(node)) == [reader]:
            if called(node) in WEIGHTED:
                return cls(node, tuple(reversed(views)))
            if called(node) not in VIEWS:
                return None
            views.append(node)
            node, reader = node.args[0], node  # type: ignore[assignment]
        return None

    @property
    def axis(self) -> int | None:
        """The axis of the norm's input that has the layer's channels; None if views split them."""
        axis: int | None = _channel_axis(self.layer)
        for view in self.views:
            axis = None if axis is None else _moved(view, axis)
        return axis


def readers(node: Node) -> Iterator[Node]:
    """Yield the users that read more of a tensor than its shape."""
    for user in node.users:
        shape_alone = called(user) in SHAPED_LIKE and user.args[0] is not node
        if not shape_alone and called(user) != "aten.sym_size.int":
            yield user


def _channel_axis(layer: Node) -> int:
    """Return the axis of a layer's output that has its channels."""
    rank: int = layer.meta["val"].dim()
    if called(layer) in LINEAR or called(layer) in ADDMM:
        return rank - 1
    weight = layer.args[1]
    return 1 if rank == len(shape_of(weight)) else 0  # type: ignore[arg-type]


def _moved(view: Node, axis: int) -> int | None:
    """Return where a view puts an axis of its input; None if it merges or splits the axis."""
    order = order_of(view)
    if order is not None:
        return order.index(axis)
    before: list[Any] = shape_of(view.args[0])  # type: ignore[arg-type]
    inner = before[axis + 1 :]
    return _axis_of(shape_of(view), before[axis], prod(inner)) if _known(inner) else None


def _axis_of(shape: Sequence[Any], size: Any, inner: int) -> int | None:
    """Return the axis of a size that has this number of elements on the axes after it."""
    for axis in reversed(range(len(shape))):
        if not _known(shape[axis:]):
            return None
        if shape[axis] == size and prod(shape[axis + 1 :]) == inner:
            return axis
    return None


def _known(sizes: Sequence[Any]) -> bool:
    return all(type(size) is int for size in sizes)
