"""Which observers can be calibrated in shards, and their state from what the shards observed.

An observer is recognized by how it observes, its ``forward``. So a class that only computes qparams
in another way, such as from a percentile, is calibrated in shards like the class it derives from.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchao.quantization.pt2e import (
    DerivedObserverOrFakeQuantize,
    FakeQuantizeBase,
    FixedQParamsObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
)
from torchao.quantization.pt2e import HistogramObserver as TorchaoHistogramObserver

from qreg.observers.fixed import (
    FixedPerChannelRangeObserver,
    FixedPerGroupRangeObserver,
    FixedRangeObserver,
)
from qreg.observers.groups import ConstantPerGroupMinMaxObserver
from qreg.observers.observation import Counts, Extremes, Range
from qreg.observers.observers import (
    ConstantMinMaxObserver,
    ConstantPerChannelMinMaxObserver,
    HistogramObserver,
)
from qreg.observers.scores import ScoresObserver

PER_TENSOR = (MinMaxObserver, ConstantMinMaxObserver)
PER_CHANNEL = (PerChannelMinMaxObserver, ConstantPerChannelMinMaxObserver)
PER_GROUP = (ConstantPerGroupMinMaxObserver,)
HISTOGRAMS = (TorchaoHistogramObserver, HistogramObserver)
SCORES = (ScoresObserver,)
MOVING = (MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver)
# These see no values: their range is fixed, of another observer, or computed for each input.
PASSIVE = (
    DerivedObserverOrFakeQuantize,
    FixedPerChannelRangeObserver,
    FixedPerGroupRangeObserver,
    FixedQParamsObserver,
    FixedRangeObserver,
    NoopObserver,
    PlaceholderObserver,
)


def is_passive(observer: nn.Module) -> bool:
    """Whether an observer needs no calibration data."""
    return _observes_as(observer, PASSIVE) or bool(getattr(observer, "is_dynamic", False))


def why_not(observer: nn.Module) -> str | None:
    """Return why an observer cannot be calibrated in shards, or None."""
    if isinstance(observer, FakeQuantizeBase):
        return "it changes the values that it sees"
    known = (*PER_TENSOR, *PER_CHANNEL, *PER_GROUP, *HISTOGRAMS, *SCORES)
    if is_passive(observer) or _observes_as(observer, known):
        return None
    if isinstance(observer, MOVING):
        return "its moving average depends on the order of the batches"
    return "what it observes in one shard cannot be merged with another"


def range_of(observer: Any) -> Range:
    """Return what the first pass observes for an observer that is not passive."""
    if _observes_as(observer, PER_CHANNEL):
        return Range(axis=observer.ch_axis)
    if _observes_as(observer, PER_GROUP):
        return Range(axis=observer.ch_axis, group_size=observer.group_size)
    if _observes_as(observer, SCORES):
        return Range(depth=observer.depth)
    return Range(finite=is_histogram(observer))


def counts_of(observer: Any) -> Counts | None:
    """Return what the second pass observes for a histogram whose range is set; None for others."""
    if not is_histogram(observer) or observer.min_val > observer.max_val:
        return None
    return Counts(observer.bins, observer.min_val.item(), observer.max_val.item())


def is_histogram(observer: nn.Module) -> bool:
    """Whether an observer needs a second pass, in which values are counted."""
    return _observes_as(observer, HISTOGRAMS)


def set_range(observer: Any, extremes: Extremes) -> None:
    """Set the range of an observer: tensors without dimensions, or of shape (channels,)."""
    for buffer, value in zip((observer.min_val, observer.max_val), extremes, strict=True):
        buffer.resize_(value.shape).copy_(value)


def set_counts(observer: Any, counts: Tensor) -> None:
    """Set the histogram of an observer, whose range is set, from counts of shape (bins,)."""
    observer.histogram.copy_(counts)


def _observes_as(observer: nn.Module, classes: tuple[type[Any], ...]) -> bool:
    kind: Any = type(observer)
    return any(kind.forward is each.forward and _inner(kind) is _inner(each) for each in classes)


def _inner(kind: Any) -> Any:
    """Return the method that ``forward`` of an observer per channel calls (torchao 0.18.0)."""
    return getattr(kind, "_forward", None)
