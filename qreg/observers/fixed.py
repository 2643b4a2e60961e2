"""Observers with a range that was chosen, not observed."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver

from qreg.errors import AlgorithmError
from qreg.observers.groups import ConstantPerGroupMinMaxObserver


class FixedRangeObserver(MinMaxObserver):  # type: ignore[misc]
    """A ``MinMaxObserver`` that keeps its range."""

    def forward(self, x: Tensor) -> Any:
        """Return a tensor unobserved."""
        return x


class FixedPerChannelRangeObserver(PerChannelMinMaxObserver):  # type: ignore[misc]
    """A ``PerChannelMinMaxObserver`` that keeps its ranges."""

    def forward(self, x: Tensor) -> Any:
        """Return a tensor unobserved."""
        return x


class FixedPerGroupRangeObserver(ConstantPerGroupMinMaxObserver):
    """A ``ConstantPerGroupMinMaxObserver`` that keeps its ranges."""

    def forward(self, x: Tensor) -> Any:
        """Return a tensor unobserved."""
        return x


def with_range(observer: Any, low: Tensor, high: Tensor) -> FixedRangeObserver:
    """Return an observer with the spec of another and the range from ``low`` to ``high``.

    Both are tensors without dimensions, of shape (channels,) for an observer per channel, or of
    shape (rows, groups) for one per group.
    Raises ``AlgorithmError`` for an observer without a range, a range of another shape, or one that
    is not finite and in order.
    """
    if not hasattr(observer, "min_val") or getattr(observer, "is_dynamic", False):
        raise AlgorithmError(
            f"its range is for a {type(observer).__name__}, which has none (expected the observer "
            "of a static activation or of a weight)"
        )
    expected = observer.min_val.shape if hasattr(observer, "ch_axis") else ()
    if (low.shape, high.shape) != (expected, expected):
        raise AlgorithmError(f"its range has shape {tuple(low.shape)} (expected {tuple(expected)})")
    if not (low.isfinite() & high.isfinite() & (low <= high)).all():
        raise AlgorithmError(
            f"its range from {low} to {high} is not a range (expected low <= high, finite)"
        )
    spec = {
        "dtype": observer.dtype,
        "qscheme": observer.qscheme,
        "quant_min": observer.quant_min,
        "quant_max": observer.quant_max,
        "eps": float(observer.eps),
    }
    made: Any
    if hasattr(observer, "group_size"):
        made = FixedPerGroupRangeObserver(
            observer.group_size,
            signed_scales=getattr(observer, "signed_scales", False),
            ch_axis=observer.ch_axis,
            **spec,
        )
    elif hasattr(observer, "ch_axis"):
        made = FixedPerChannelRangeObserver(ch_axis=observer.ch_axis, **spec)
    else:
        made = FixedRangeObserver(**spec)
    made.min_val, made.max_val = low.detach().float().clone(), high.detach().float().clone()
    return made  # type: ignore[no-any-return]
