"""Ranges of quantized values that the histogram of the values suggests."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from attrs import frozen
from torch import Tensor

Range = tuple[float, float]

SHARES = (0.9999, 0.999, 0.99)  # of the values, for ranges by percentile
KEPT = tuple(1 - step / 16 for step in range(14))  # shares of each end of the range, for the MSE


@frozen(eq=False)
class Histogram:
    """Counts of values (float64) in bins of equal width between ``low`` and ``high``.

    ``levels`` is the number of quantized values, and ``symmetric`` whether they stand for a range
    around 0.
    """

    counts: Tensor
    low: float
    high: float
    levels: int
    symmetric: bool

    @property
    def centres(self) -> Tensor:
        """The middle of each bin."""
        bins = len(self.counts)
        return self.low + (torch.arange(bins, dtype=torch.float64) + 0.5) * self.width

    @property
    def width(self) -> float:
        return (self.high - self.low) / len(self.counts)

    def ranges(self) -> Iterator[Range]:
        """Yield the range observed, by percentiles, by the MSE and by the entropy."""
        yield self.low, self.high
        yield from (self.percentile(share) for share in SHARES)
        yield self.least_squares()
        yield self.least_entropy()

    def percentile(self, share: float) -> Range:
        """Return the range without the lowest and the highest values, ``1 - share`` in all."""
        below = self.counts.cumsum(0) / self.counts.sum()
        cut = (1 - share) / 2
        first = int((below <= cut).sum())
        last = min(int((below < 1 - cut).sum()), len(below) - 1)
        return self.low + first * self.width, self.low + (last + 1) * self.width

    def least_squares(self) -> Range:
        """Return the range with the least squared error, of a grid of shares of both ends.

        A value inside has the error ``step**2 / 12`` of uniform rounding, one outside also its
        distance to the range.
        """
        shares = torch.tensor(KEPT, dtype=torch.float64)
        lows, highs = torch.cartesian_prod(self.low * shares, self.high * shares).T
        if self.symmetric:
            highs = torch.maximum(-lows, highs)
            lows = -highs
        lows, highs = lows.clamp(max=0), highs.clamp(min=0)  # ranges include 0
        step = (highs - lows) / (self.levels - 1)
        clipped = self.centres.clamp(lows[:, None], highs[:, None])
        outside = ((self.centres - clipped).square() * self.counts).sum(1)
        best = int((outside + self.counts.sum() * step.square() / 12).argmin())
        return float(lows[best]), float(highs[best])

    def least_entropy(self) -> Range:
        """Return the range of the magnitudes whose quantized distribution is nearest to theirs.

        Migacz, 8-bit inference with TensorRT (2017): for each number of bins, the reference is the
        distribution of the magnitudes, with those beyond counted in the last bin; the candidate has
        as many values as are quantized, each spread over the bins that were not empty; the one with
        the least Kullback-Leibler divergence is chosen.
        """
        levels = self.levels // 2 if self.symmetric or self.low < 0 < self.high else self.levels
        largest = max(abs(self.low), abs(self.high))
        magnitudes = _rebinned(self.counts, self.centres.abs(), largest)
        kept = range(levels, len(magnitudes) + 1, max(1, levels // 16))
        ends = [*dict.fromkeys([*kept, len(magnitudes)])]
        divergences = [_divergence(magnitudes, end, levels) for end in ends]
        best = ends[divergences.index(min(divergences))] / len(magnitudes) * largest
        low, high = (max(-best, min(end, best)) for end in (self.low, self.high))
        return low, high


def _rebinned(counts: Tensor, values: Tensor, largest: float) -> Tensor:
    """Return counts in as many bins between 0 and ``largest``."""
    places = (values / largest * len(counts)).long().clamp(max=len(counts) - 1)
    return torch.zeros_like(counts).index_add(0, places, counts)


def _divergence(counts: Tensor, end: int, levels: int) -> float:
    """Return the divergence of the first ``end`` bins from their quantized distribution."""
    inside = counts[:end]
    reference = inside.clone()
    reference[-1] += counts[end:].sum()
    level = torch.arange(end) * levels // end
    filled = (reference > 0).double()
    sums = torch.zeros(levels, dtype=counts.dtype).index_add(0, level, inside)
    sizes = torch.zeros(levels, dtype=counts.dtype).index_add(0, level, filled)
    spread = (sums / sizes.clamp(min=1))[level] * filled
    p, q = reference / reference.sum(), spread / spread.sum()
    seen = p > 0
    if (q[seen] == 0).any():
        return float("inf")
    return float((p[seen] * (p[seen] / q[seen]).log()).sum())
