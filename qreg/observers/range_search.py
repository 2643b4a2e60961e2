"""Search for the range of a histogram with the smallest quantization error.

torchao 0.18 searches one step at a time: it walks the cumulative sum with tensors as pointers, and
computes the error of the new range after each step that moves. The candidate ranges depend on the
cumulative sum alone. So this module finds the ranges first, by bins instead of steps, and then
computes their errors in blocks, with the same float32 operations in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, islice

import torch
from attrs import frozen
from torch import Tensor

STEP = 1e-5  # the share of values that a step of the search cuts off, as in torchao
LOOKED_UP = 4096  # steps looked up at once: most searches end long before the last one
LARGEST_BLOCK = 32  # ranges whose errors are computed at once, within a second-level cache

Range = tuple[int, int]


def best_range(histogram: Tensor, low: float, high: float, levels: int) -> Range:
    """Return the first and last bin of the range that torchao's search ends with.

    ``histogram`` (float32, shape (bins,)) counts values between ``low`` and ``high``; ``levels`` is
    the number of quantized values. The search is that of torchao's ``HistogramObserver``, which
    follows caffe2's ``NormMinimization::NonlinearQuantizationParamsSearch``: cut off the sparser
    end until the squared error of the rest grows, assuming uniform values within each bin.
    """
    width = (high - low) / len(histogram)
    best, smallest = (0, len(histogram) - 1), float("inf")
    ranges = narrowing_ranges(histogram)
    for block in _blocks(ranges):
        for candidate, error in zip(block, errors(histogram, width, block, levels), strict=True):
            if error > smallest:
                return best
            best, smallest = candidate, error
    return best


def _blocks(ranges: Iterator[Range]) -> Iterator[list[Range]]:
    """Yield the ranges in growing blocks: most searches end after a few, some after thousands."""
    size = 2
    while block := list(islice(ranges, size)):
        yield block
        size = min(2 * size, LARGEST_BLOCK)


def narrowing_ranges(histogram: Tensor) -> Iterator[Range]:
    """Yield the candidate ranges of bins, each narrower than the previous one.

    A step cuts off the next share at the end where the share spans more bins, and at the upper end
    if both spans are equal. Once the next share at the lower end spans no bin, the lower end stays
    fixed, and the rest is a walk down the upper end.
    """
    bins, (cut_below, kept_above) = len(histogram), _shares()
    look_up = _Cumulated(histogram.cumsum(0), histogram.sum().item())
    lowest = look_up.first_bins(cut_below[1 : bins + 2]).tolist()
    highest = look_up.last_bins(kept_above[1 : bins + 2]).tolist()
    start, end, below, above = 0, bins - 1, 0, 0
    while cut_below[below] < kept_above[above] and (gain := min(lowest[below], end) - start) > 0:
        if gain > end - max(highest[above], start):
            start, below = start + gain, below + 1
        else:
            end, above = max(highest[above], start), above + 1
        yield start, end
    last = int((kept_above > cut_below[below]).sum())
    for step in range(above, last, LOOKED_UP):
        shares = kept_above[step + 1 : min(step + LOOKED_UP, last) + 1]
        ends = look_up.last_bins(shares).clamp(min=start)
        for narrower in torch.unique_consecutive(ends[ends < end]).tolist():
            end = narrower
            yield start, end


@cache
def _shares() -> tuple[Tensor, Tensor]:
    """Return the shares of values below and above which the search cuts, after each step."""
    steps = round(1 / STEP) + 1
    rising = accumulate([STEP] * steps, initial=0.0)
    falling = accumulate([-STEP] * steps, initial=1.0)
    return torch.tensor([*rising], dtype=torch.float64), torch.tensor(
        [*falling], dtype=torch.float64
    )


@frozen
class _Cumulated:
    """A cumulative sum to look up shares of its total.

    torchao compares a float32 tensor with a Python number, which torch computes in float32.
    """

    sums: Tensor
    total: float

    def first_bins(self, shares: Tensor) -> Tensor:
        """Return, for each share, the first bin with at least that share up to its end."""
        return torch.searchsorted(self.sums, (shares * self.total).to(self.sums.dtype))

    def last_bins(self, shares: Tensor) -> Tensor:
        """Return, for each share, the last bin with at most that share up to its end."""
        wanted = (shares * self.total).to(self.sums.dtype)
        return torch.searchsorted(self.sums, wanted, right=True) - 1


def errors(histogram: Tensor, width: float, ranges: Sequence[Range], levels: int) -> list[float]:
    """Return the squared error of quantizing a histogram of bins of ``width`` to each range.

    Values within a bin are assumed to be uniform. The error of a bin is the integral of ``x**2``
    over the distances from the centres of the quantized values that the bin overlaps: a part of
    the first, all of those between, and a part of the last.
    """
    steps = [width * (end - start + 1) / levels for start, end in ranges]
    if 0.0 in steps:
        return [0.0] * len(ranges)
    step, half = _column(steps), _column([each / 2 for each in steps])
    starts = torch.tensor([[start] for start, _ in ranges])
    begin = (torch.arange(len(histogram)) - starts) * width
    end = begin + width
    first = torch.div(begin, step, rounding_mode="floor").clamp_(0, levels - 1)
    last = torch.div(end, step, rounding_mode="floor").clamp_(0, levels - 1)
    density = histogram / width
    to_first = begin - (first + 0.5) * step
    to_last = end - (last * step + half)
    whole = half * half * half
    error = density * ((whole - to_first * to_first * to_first) / 3)
    error += (last - first - 1) * (density * ((whole + whole) / 3))
    error += density * ((to_last * to_last * to_last + whole) / 3)
    return [float(row.sum()) for row in error]


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]
