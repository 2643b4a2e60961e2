"""The numbers of a comparison in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qreg.utils.wording import size, speed, than

if TYPE_CHECKING:
    from qreg.comparison.values import Entry


def decibels(value: float | None) -> str:
    if value is None:
        return ""
    return "equal" if math.isinf(value) and value > 0 else f"{value:.1f} dB"


def ratios(entry: Entry, plain: Entry) -> Iterator[str]:
    """Yield how the latency and size of a program compare with the float model in torch."""
    if entry.milliseconds is not None and plain.milliseconds is not None:
        yield than(speed(entry.milliseconds, plain.milliseconds), "float in torch")
    if entry.bytes is not None and plain.bytes is not None:
        yield than(size(entry.bytes, plain.bytes), "the float parameters")
