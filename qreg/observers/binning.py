"""Counts values into the bins of a histogram, as torch and torchao do, bit for bit, but faster."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

SMALLEST = 1 << 12  # below this many values, torch.histc is as fast
SMALLEST_RANGE = 2.0**-100  # for a bin's width to have all its digits
CHUNK = 1 << 17  # values counted at once, so that what is between fits into a cache
UPSAMPLED = 16  # parts into which a bin is cut before it is moved, as in torchao
NARROW = 1 / 16  # the size of a range against that of its ends, below which rounding matters


def counted(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    """How many values lie in each of ``bins`` bins from ``low`` to ``high``: ``torch.histc``.

    No value may lie outside. Raises what ``torch.histc`` raises for a range that is not finite.
    """
    if values.dtype != torch.float32 or not values.is_cpu or values.numel() < SMALLEST:
        return torch.histc(values, bins, min=low, max=high)
    if not SMALLEST_RANGE < high - low < float("inf"):
        return torch.histc(values, bins, min=low, max=high)
    chunks = torch.split(values.reshape(-1), CHUNK)
    total = reduce(torch.add, (_counted(chunk, bins, low, high) for chunk in chunks))
    counts, at_high = total[:bins], total[bins:]
    counts[-1:] += at_high  # the last bin has its right end in it
    return counts.to(values.dtype)


def _counted(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    if bins & (bins - 1):
        positions = values.sub(low).mul_(bins).div_(high - low)
    else:  # a power of two can be divided by beforehand without any rounding
        positions = values.sub(low).div_((high - low) / bins)
    return torch.bincount(positions.to(torch.int32), minlength=bins + 1)


def in_order(low: Tensor, high: Tensor) -> bool:
    """Whether the middles of the parts of the bins from ``low`` to ``high`` are ascending.

    They may not be where neighbouring float32 numbers are as far apart as the middles.
    """
    return bool(high - low > NARROW * torch.max(low.abs(), high.abs()))


def rescaled(
    histogram: Tensor, low: Tensor, high: Tensor, new_low: Tensor, new_high: Tensor
) -> Tensor:
    """A histogram of values from ``low`` to ``high``, spread over the bins of a wider range.

    As in torchao's ``HistogramObserver``, each bin is cut into parts, and a part goes where its
    middle is. The middles must be in order: then a new bin is the sum of a run of parts, which
    ``segment_reduce`` adds one after the other, as torchao's ``bincount`` does.
    """
    bins, parts = len(histogram), UPSAMPLED * len(histogram)
    middles = torch.linspace(low, high, parts + 1)[:-1].add_(0.5 * ((high - low) / parts))
    ends = torch.linspace(new_low, new_high, bins + 1)
    firsts = torch.searchsorted(middles, ends[1:-1])
    lengths = torch.diff(firsts, prepend=firsts.new_tensor([0]), append=firsts.new_tensor([parts]))
    weights = (histogram / UPSAMPLED)[:, None].expand(-1, UPSAMPLED).reshape(-1)
    return torch.segment_reduce(weights, "sum", lengths=lengths)
