"""Count values into the bins of a histogram, bit for bit as torch and torchao do, but faster."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

SMALLEST = 1 << 12  # with fewer values, torch.histc is as fast
SMALLEST_RANGE = 2.0**-100  # so that the width of a bin keeps its full precision
CHUNK = 1 << 17  # values counted at once, so that intermediate tensors fit into a cache
UPSAMPLED = 16  # parts into which a bin is split when it is moved, as in torchao
NARROW = 1 / 16  # the size of a range relative to its ends, below which rounding matters


def counted(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Return the number of values in each of ``bins`` bins from ``low`` to ``high``.

    The result is that of ``torch.histc``. All values must be within the range. Raises the errors
    of ``torch.histc`` for a range that is not finite.
    """
    if _is_for_histc(values, low, high):
        return torch.histc(values, bins, min=low, max=high)
    return _whole(values, bins, low, high).to(values.dtype)


def whole_counts(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    """Return the same numbers as :func:`counted`, in int64, so that large ones add up exactly."""
    if _is_for_histc(values, low, high):
        return torch.histc(values, bins, min=low, max=high).long()
    return _whole(values, bins, low, high)


def _is_for_histc(values: Tensor, low: float, high: float) -> bool:
    if values.dtype != torch.float32 or not values.is_cpu or values.numel() < SMALLEST:
        return True
    return not SMALLEST_RANGE < high - low < float("inf")


def _whole(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    chunks = torch.split(values.reshape(-1), CHUNK)
    total = reduce(torch.add, (_counted(chunk, bins, low, high) for chunk in chunks))
    counts, at_high = total[:bins], total[bins:]
    counts[-1:] += at_high  # the last bin includes its right end
    return counts


def _counted(values: Tensor, bins: int, low: float, high: float) -> Tensor:
    if bins & (bins - 1):
        positions = values.sub(low).mul_(bins).div_(high - low)
    else:  # dividing by a power of two first does not round
        positions = values.sub(low).div_((high - low) / bins)
    return torch.bincount(positions.to(torch.int32), minlength=bins + 1)


def in_order(low: Tensor, high: Tensor) -> bool:
    """Whether the middles of the parts of the bins from ``low`` to ``high`` are ascending.

    The middles may be out of order if neighbouring float32 numbers are as far apart as they are.
    """
    return bool(high - low > NARROW * torch.max(low.abs(), high.abs()))


def rescaled(
    histogram: Tensor, low: Tensor, high: Tensor, new_low: Tensor, new_high: Tensor
) -> Tensor:
    """Return a histogram of values from ``low`` to ``high``, spread over bins of a wider range.

    As in torchao's ``HistogramObserver``, each bin is split into parts, and each part is added to
    the new bin that contains the middle of the part. The middles must be in order. Then a new bin
    is the sum of a run of parts, which ``segment_reduce`` adds in the same order as torchao's
    ``bincount``.
    """
    bins, parts = len(histogram), UPSAMPLED * len(histogram)
    middles = torch.linspace(low, high, parts + 1)[:-1].add_(0.5 * ((high - low) / parts))
    ends = torch.linspace(new_low, new_high, bins + 1)
    firsts = torch.searchsorted(middles, ends[1:-1])
    lengths = torch.diff(firsts, prepend=firsts.new_tensor([0]), append=firsts.new_tensor([parts]))
    weights = (histogram / UPSAMPLED)[:, None].expand(-1, UPSAMPLED).reshape(-1)
    return torch.segment_reduce(weights, "sum", lengths=lengths)
