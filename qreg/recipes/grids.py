"""Weights that are on the grid of an observer, as integers of a byte each, without loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from torch import Tensor

    from qreg.recipes.pinned import QParams


@frozen
class Grid:
    """The observer whose scale and zero point make values of integers, and their axis."""

    observer: str
    axis: int

    def values(self, integers: Tensor, qparams: Mapping[str, QParams]) -> Tensor:
        """Return ``(integers - zero_point) * scale`` in float32, computed in double precision."""
        scale, zero = _shaped(qparams[self.observer], self.axis, integers.shape)
        values = (integers.double() - zero) * scale
        return values.float() + 0.0  # without -0.0, for a negative scale


def on_a_grid(
    node: str, value: Tensor, qparams: Mapping[str, QParams]
) -> tuple[Grid, Tensor] | None:
    """Return integers that give the constant of an operator bit for bit, if there are any.

    These are int8 or uint8 of the constant's shape. Observers of changed constants have the name of
    the operator in theirs; whether it is the right one, the comparison shows.
    """
    import torch

    if value.dtype != torch.float32:
        return None
    for grid in _candidates(node, value, qparams):
        scale, zero = _shaped(qparams[grid.observer], grid.axis, value.shape)
        rounded = (value.double() / scale + zero).round()
        for dtype in (torch.int8, torch.uint8):
            limits = torch.iinfo(dtype)
            integers = rounded.clamp(limits.min, limits.max).to(dtype)
            again = grid.values(integers, qparams)
            if torch.equal(again.view(torch.int32), value.contiguous().view(torch.int32)):
                return grid, integers
    return None


def _candidates(node: str, value: Tensor, qparams: Mapping[str, QParams]) -> Iterator[Grid]:
    for name, each in qparams.items():
        if f"_of_{node}" not in name:
            continue
        if each.scale.dim() == 2:
            if value.dim() == 2 and not value.shape[1] % each.scale.shape[1]:
                yield Grid(name, 0)
        else:
            for axis, size in enumerate(value.shape):
                if each.scale.numel() in (1, size) and each.zero_point.shape == each.scale.shape:
                    yield Grid(name, axis)


def _shaped(qparams: QParams, axis: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return scale and zero point in double precision, for tensors of a shape."""
    values = qparams.scale.double(), qparams.zero_point.double()
    if qparams.scale.dim() == 2:  # of groups along the rows of a matrix
        size = shape[1] // qparams.scale.shape[1]
        return values[0].repeat_interleave(size, 1), values[1].repeat_interleave(size, 1)
    along = [-1 if each == axis else 1 for each in range(len(shape))]
    return values[0].reshape(along), values[1].reshape(along)
