"""How the qparams of an observer lie along a tensor: per tensor, per channel or per group."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def by_qparams(observer: Any, values: Tensor) -> Tensor:
    """Return values of a tensor in the shape (*shape of the qparams, values that share them)."""
    if hasattr(observer, "group_size"):
        return values.reshape(*values.shape[:-1], -1, observer.group_size)
    if hasattr(observer, "ch_axis"):
        return values.movedim(observer.ch_axis, 0).flatten(1)
    return values.flatten()


def spread(observer: Any, qparams: Tensor, values: Tensor) -> Tensor:
    """Return qparams of an observer in a shape that broadcasts with the tensor it observes."""
    if hasattr(observer, "group_size"):
        return qparams.repeat_interleave(observer.group_size, -1)
    if not hasattr(observer, "ch_axis"):
        return qparams
    shape = [1] * values.dim()
    shape[observer.ch_axis] = -1
    return qparams.reshape(shape)
