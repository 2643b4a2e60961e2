"""The search for the range of a histogram that is worth quantizing.

torchao 0.18 looks for it one step at a time: it walks the cumulative sum with tensors as pointers,
and after each step that moves, computes the error of the new range. Which ranges it meets depends
on the cumulative sum alone. So here they are found first, by bins instead of steps, and their
errors are computed in blocks, in the same order of the same float32 operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, islice

import torch
from torch import Tensor

STEP = 1e-5  # the share of values that a step of the search cuts off, as in torchao
LARGEST_BLOCK = 32  # ranges whose errors are computed at once, within a second-level cache

Range = tuple[int, int]


def best_range(histogram: Tensor, low: float, high: float, levels: int) -> Range:
    """The first and last bin of the range that torchao's search ends with.

    ``histogram`` (float32, shape (bins,)) counts values between ``low`` and ``high``; ``levels`` is
    the number of quantized values. The search is that of torchao's ``HistogramObserver``, which
    follows caffe2's ``NormMinimization::NonlinearQuantizationParamsSearch``: cut off the sparser
    end until the squared error of the rest, each bin taken for uniform, grows.
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
    """The ranges in blocks that grow: most searches end after a few, some after thousands."""
    size = 2
    while block := list(islice(ranges, size)):
        yield block
        size = min(2 * size, LARGEST_BLOCK)


def narrowing_ranges(histogram: Tensor) -> Iterator[Range]:
    """The ranges of bins that the search meets, each narrower than the one before.

    A step cuts off the next share where that takes more bins, which is above if both take as many.
    So a lower side with nothing to take stays as it is, and the rest is a walk down the upper one.
    """
    cut_below, kept_above = _shares()
    lower, upper = _positions(histogram, *_shares())
    start, end, below, above = 0, len(histogram) - 1, 0, 0
    lowest, highest = (positions[: len(histogram) + 1].tolist() for positions in (lower, upper))
    while cut_below[below] < kept_above[above] and (gain := min(lowest[below], end) - start) > 0:
        if gain > end - max(highest[above], start):
            start, below = start + gain, below + 1
        else:
            end, above = max(highest[above], start), above + 1
        yield start, end
    rest = upper[above:][kept_above[above:-1] > cut_below[below]].clamp(min=start)
    for new_end in torch.unique_consecutive(rest[rest < end]).tolist():
        yield start, new_end


@cache
def _shares() -> tuple[Tensor, Tensor]:
    """The shares of values below and above which the search cuts, after each of its steps."""
    steps = round(1 / STEP) + 1
    rising = accumulate([STEP] * steps, initial=0.0)
    falling = accumulate([-STEP] * steps, initial=1.0)
    return torch.tensor([*rising], dtype=torch.float64), torch.tensor(
        [*falling], dtype=torch.float64
    )


def _positions(histogram: Tensor, rising: Tensor, falling: Tensor) -> tuple[Tensor, Tensor]:
    """The bins that each step reaches, without regard to those that were cut off before.

    Rising, that is the first bin with at least the share below it; falling, the last bin with at
    most that share.
    """
    cumulated, total = histogram.cumsum(0), histogram.sum().item()
    # torchao compares a float32 tensor with a Python number, which torch does in float32.
    lower = torch.searchsorted(cumulated, (rising[1:] * total).to(cumulated.dtype))
    upper = torch.searchsorted(cumulated, (falling[1:] * total).to(cumulated.dtype), right=True) - 1
    return lower, upper


def errors(histogram: Tensor, width: float, ranges: Sequence[Range], levels: int) -> list[float]:
    """The squared error of quantizing a histogram of bins of ``width`` to each of some ranges.

    Each bin is taken for uniform. Its error is the integral of ``x**2`` over the distances from
    the centres of the quantized values that it overlaps: a part of the first, all of those between,
    and a part of the last.
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
