"""Observers that return the same qparams as torchao's in a fraction of the time."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torchao.quantization.pt2e import FusedMovingAvgObsFakeQuantize as TorchaoFakeQuantize
from torchao.quantization.pt2e import HistogramObserver as TorchaoHistogramObserver
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

from qreg.errors import CalibrationError
from qreg.observers.binning import UPSAMPLED, counted, in_order, rescaled
from qreg.observers.range_search import best_range

UNSEEN = (
    "an observer saw no value: run calibration batches through the prepared model before it is "
    "converted"
)


class HistogramObserver(TorchaoHistogramObserver):  # type: ignore[misc]
    """A faster version of torchao's ``HistogramObserver``, with the same state and qparams.

    The arguments are the same too. The only difference: computing qparams without an observed
    value raises ``CalibrationError``, whereas torchao returns the scale 1 with a warning.
    """

    _last: _Counted | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_last"}

    def forward(self, x_orig: Tensor) -> Tensor:
        """Count the values of a tensor of any shape, and return the tensor."""
        x = x_orig.detach()
        if x.dtype != self.histogram.dtype or not x.is_cpu or not x.numel():
            return super().forward(x_orig)  # type: ignore[no-any-return]
        low, high = (extreme.item() for extreme in torch.aminmax(x))
        if not (math.isfinite(low) and math.isfinite(high)):
            # torchao skips infinities with a warning, and rejects NaN.
            return super().forward(x_orig)  # type: ignore[no-any-return]
        self._add(x, low, high)
        return x_orig

    def _add(self, x: Tensor, low: float, high: float) -> None:
        """Add values between ``low`` and ``high`` to the histogram, and widen its range."""
        histogram, old_low, old_high = self.histogram, self.min_val, self.max_val
        old = old_low.item(), old_high.item()
        new = low, high = min(low, old[0]), max(high, old[1])
        counts = self._counts(x, low, high)
        if new == old:
            histogram.add_(counts)
            return
        if old[0] <= old[1]:
            ends = old_low.new_tensor(low), old_high.new_tensor(high)
            counts = self._combine_histograms(histogram, old_low, old_high, counts, *ends)
        histogram.copy_(counts)
        old_low.fill_(low)
        old_high.fill_(high)

    def _counts(self, x: Tensor, low: float, high: float) -> Tensor:
        """Return the counts of some values, cached from the last call if the values are the same.

        The cache is used if an observer is shared along a view, so that the observer sees one
        tensor in two shapes.
        """
        storage, place = x.untyped_storage(), _place(x)
        last = self._last
        if last and last.is_of(storage, place, (low, high)):
            return last.counts
        counts = counted(x, self.bins, low, high)
        self._last = _Counted(weakref.ref(storage), place, (low, high), counts)
        return counts

    def _upscale_histogram(
        self, histogram: Tensor, low: Tensor, high: Tensor, new_low: Tensor, new_high: Tensor
    ) -> Tensor:
        # torchao 0.18.0: what _combine_histograms calls; test_observers.py notices a change.
        ends = histogram, low, high, new_low, new_high
        alike = self.upsample_rate == UPSAMPLED and in_order(low, high)
        return rescaled(*ends) if alike else super()._upscale_histogram(*ends)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Return scale (float32) and zero point (int64), each of shape (1,).

        Raises ``CalibrationError`` if the observer saw no value.
        """
        if self.min_val == float("inf") and self.max_val == float("-inf"):
            raise CalibrationError(UNSEEN)
        qparams: tuple[Tensor, Tensor] = super().calculate_qparams()
        return qparams

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        # torchao 0.18.0: what calculate_qparams calls; test_observers.py notices a change.
        start, end = best_range(
            self.histogram, float(self.min_val), float(self.max_val), self.dst_nbins
        )
        bin_width = (self.max_val - self.min_val) / self.bins
        return self.min_val + bin_width * start, self.min_val + bin_width * (end + 1)


@frozen
class _Counted:
    """Counts and the identity of the counted values, without keeping the values in memory."""

    storage: Callable[[], torch.UntypedStorage | None]
    place: tuple[int, int, int] | None
    range: tuple[float, float]
    counts: Tensor

    def is_of(
        self,
        storage: torch.UntypedStorage,
        place: tuple[int, int, int] | None,
        range_: tuple[float, float],
    ) -> bool:
        """Whether the counts are of the values at this place of a storage, in this range."""
        known = place is not None and self.storage() is storage
        return known and (self.place, self.range) == (place, range_)


def _place(x: Tensor) -> tuple[int, int, int] | None:
    """Return the offset, number of elements and version of a tensor's values in its storage.

    None if the values are not contiguous in memory, or if torch does not count their versions, as
    for inference tensors.
    """
    if x.is_inference() or not _is_dense(x):
        return None
    return int(x.storage_offset()), x.numel(), x._version


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor's elements fill a contiguous block of memory, in any order, once each."""
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1:
            if stride != expected:
                return False
            expected *= size
    return True


class ConstantMinMaxObserver(MinMaxObserver):  # type: ignore[misc]
    """A ``MinMaxObserver`` for a tensor that never changes, such as a weight after training.

    The first call observes the tensor. Later calls return their input unobserved.
    """

    def forward(self, x: Tensor) -> Any:
        return x if _has_seen(self) else super().forward(x)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point; raise ``CalibrationError`` without an observed value."""
        _check_seen(self)
        return super().calculate_qparams()  # type: ignore[no-any-return]


class ConstantPerChannelMinMaxObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """A ``PerChannelMinMaxObserver`` for a tensor that never changes, observed only once."""

    def forward(self, x: Tensor) -> Any:
        return x if _has_seen(self) else super().forward(x)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Return a scale and zero point per channel; raise as ``ConstantMinMaxObserver``."""
        _check_seen(self)
        return super().calculate_qparams()  # type: ignore[no-any-return]


class FusedMovingAvgObsFakeQuantize(TorchaoFakeQuantize):  # type: ignore[misc]
    """torchao's fake quantizer; without an observed value it raises ``CalibrationError``."""

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point; raise ``CalibrationError`` without an observed value."""
        _check_seen(self.activation_post_process)
        return super().calculate_qparams()  # type: ignore[no-any-return]


def _check_seen(observer: Any) -> None:
    if not _has_seen(observer):
        raise CalibrationError(UNSEEN)


def _has_seen(observer: Any) -> bool:
    lowest, highest = observer.min_val, observer.max_val
    return bool(lowest.numel()) and (lowest.dim() > 0 or lowest.item() <= highest.item())
