"""What is observed of a tensor in each shard of the calibration data, so that shards merge exactly.

The lowest and highest value of all shards are those of all data. The counts in bins of a fixed
range are integers, whose sum does not depend on the order. Both are the same for any shards.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import reduce
from typing import TypeAlias

import torch
from attrs import frozen
from torch import Tensor

from qreg.observers import scores
from qreg.observers.binning import whole_counts

Extremes: TypeAlias = tuple[Tensor, Tensor]


@frozen
class Range:
    """The lowest and highest value, or those of each index along ``axis``.

    With ``group_size``, they are those of each group along the last axis of each row.
    ``finite`` ignores infinities, as torchao's ``HistogramObserver`` does. With ``depth``, they are
    those that a ``ScoresObserver`` observes.
    """

    axis: int | None = None
    finite: bool = False
    group_size: int | None = None
    depth: float | None = None

    def updated(self, known: Extremes | None, values: Tensor) -> Extremes | None:
        """Return the extremes of these values and of those seen before, in float32."""
        values = values.detach().float()
        if self.finite:
            values = without_infinities(values)
        found = self._extremes(values)
        if found is None or known is None:
            return known if found is None else found
        return self._wider(known, found)

    def merged(self, shards: Iterable[Extremes | None]) -> Extremes | None:
        """Return the extremes of all shards; None if none of them has seen a value."""
        seen = [each for each in shards if each is not None]
        return reduce(self._wider, seen) if seen else None

    def _extremes(self, values: Tensor) -> Extremes | None:
        if self.depth is not None:
            return scores.ends(values, self.depth)
        if not values.numel():
            return None
        if self.group_size is not None:
            rows = values.reshape(len(values), -1, self.group_size)
            low, high = torch.aminmax(rows, dim=-1)
        elif self.axis is None:
            low, high = torch.aminmax(values)
        else:
            low, high = torch.aminmax(values.movedim(self.axis, 0).flatten(1), dim=1)
        return low, high

    def _wider(self, one: Extremes, other: Extremes) -> Extremes:
        if self.depth is not None:
            return scores.wider(one, other)
        return torch.minimum(one[0], other[0]), torch.maximum(one[1], other[1])


@frozen
class Counts:
    """The numbers of values (int64) in each of ``bins`` bins from ``low`` to ``high``.

    No finite value may be outside this range.
    """

    bins: int
    low: float
    high: float

    def updated(self, known: Tensor | None, values: Tensor) -> Tensor | None:
        """Return the counts of these values and of those seen before."""
        values = without_infinities(values.detach().float())
        if not values.numel():
            return known
        found = whole_counts(values, self.bins, self.low, self.high)
        return found if known is None else known + found

    def merged(self, shards: Iterable[Tensor | None]) -> Tensor | None:
        """Return the counts of all shards; None if none of them has seen a value."""
        seen = [each for each in shards if each is not None]
        return reduce(torch.add, seen) if seen else None


Observation: TypeAlias = Range | Counts


def without_infinities(values: Tensor) -> Tensor:
    """Return values without infinities, which no quantization range includes, with a warning."""
    if not values.numel() or not any(end.isinf() for end in torch.aminmax(values)):
        return values
    warnings.warn("an observer ignores infinities", stacklevel=2)
    return values[~values.isinf()]
