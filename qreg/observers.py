"""Observers that give torchao's own parameters in a fraction of its time.

torchao 0.18 looks for the range of a histogram one step at a time: it walks the cumulative sum
with tensors as pointers, and after each step that moves, computes the error of the new range.
Which ranges it meets depends on the cumulative sum alone. So here they are found first, with plain
numbers, and their errors are computed in blocks, in the same order of the same float32 operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, islice
from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver as TorchaoHistogramObserver
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

from qreg.errors import CalibrationError

STEP = 1e-5  # the share of values that a step of the search cuts off, as in torchao
LARGEST_BLOCK = 32  # ranges whose errors are computed at once, within a second-level cache

Range = tuple[int, int]


class HistogramObserver(TorchaoHistogramObserver):  # type: ignore[misc]
    """torchao's ``HistogramObserver``, with the same arguments, state and parameters, but faster.

    It differs in one thing: asked for parameters before it saw a value, it raises
    ``CalibrationError``, where torchao gives the scale 1 with a warning.
    """

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale (float32) and zero point (int64), each of shape (1,).

        Raises ``CalibrationError`` if the observer saw no value.
        """
        if self.min_val == float("inf") and self.max_val == float("-inf"):
            raise CalibrationError(
                "an observer saw no value: run calibration batches through the prepared model "
                "before it is converted"
            )
        qparams: tuple[Tensor, Tensor] = super().calculate_qparams()
        return qparams

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        # torchao 0.18.0: what calculate_qparams calls; tests/test_observers.py notices a change.
        start, end = best_range(
            self.histogram, float(self.min_val), float(self.max_val), self.dst_nbins
        )
        bin_width = (self.max_val - self.min_val) / self.bins
        return self.min_val + bin_width * start, self.min_val + bin_width * (end + 1)


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


class ConstantMinMaxObserver(MinMaxObserver):  # type: ignore[misc]
    """A ``MinMaxObserver`` for a tensor that never changes, such as a weight after training.

    It looks once; every later batch passes through.
    """

    def forward(self, x: Tensor) -> Any:
        return x if _has_seen(self) else super().forward(x)


class ConstantPerChannelMinMaxObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """A ``PerChannelMinMaxObserver`` for a tensor that never changes; it looks once."""

    def forward(self, x: Tensor) -> Any:
        return x if _has_seen(self) else super().forward(x)


def _has_seen(observer: Any) -> bool:
    lowest = observer.min_val
    return bool(lowest.numel()) and bool(lowest.isfinite().all())
