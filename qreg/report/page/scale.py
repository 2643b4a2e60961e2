"""Linear scales, with round numbers on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import frozen

TICKS = 5


@frozen
class Tick:
    """A position on an axis, with its number as text."""

    at: float
    text: str


@frozen
class Scale:
    """A linear map from numbers to positions; ``unit`` follows the numbers on the axis."""

    low: float
    high: float
    start: float
    end: float
    unit: str = ""

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        start: float,
        end: float,
        *,
        from_zero: bool = False,
        unit: str = "",
    ) -> Scale:
        """Return a scale with a margin around finite values."""
        finite = [each for each in values if math.isfinite(each)] or [0.0]
        low, high = min(finite), max(finite)
        margin = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(0.0 if from_zero else low - margin, high + margin, start, end, unit)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Round numbers on the scale."""
        step = _round((self.high - self.low) / TICKS)
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        return tuple(
            Tick(self(number * step), f"{number * step:.6g}{self.unit}")
            for number in range(first, last + 1)
        )


def _round(step: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step * 0.999)
