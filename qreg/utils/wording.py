"""Ratios and shares in words, the same wherever qreg prints them."""

from __future__ import annotations

import math

ALIKE = 1.03  # the ratio up to which two measurements are the same
TIMES = 1.5  # the ratio from which it is written as a factor, and below it in percent


def speed(time: float, reference: float) -> str:
    """How a time compares with another: ``"1.9 times faster"``, ``"15 % slower"``, ``"as fast"``.

    It is ``"not comparable"`` if one of them is 0 or not finite.
    """
    return _compared(time, reference, "faster", "slower", "as fast")


def size(count: float, reference: float) -> str:
    """How a number of bytes compares with another: ``"2.8 times smaller"``, ``"12 % larger"``."""
    return _compared(count, reference, "smaller", "larger", "as large")


def _compared(value: float, reference: float, less: str, more: str, alike: str) -> str:
    if not all(math.isfinite(each) and each > 0 for each in (value, reference)):
        return "not comparable"
    factor = max(value / reference, reference / value)
    if factor <= ALIKE:
        return alike
    return f"{_factor(factor)} {less if value < reference else more}"


def _factor(factor: float) -> str:
    if factor < TIMES:
        return f"{100 * (factor - 1):.0f} %"
    return f"{factor:.1f} times" if factor < 9.95 else f"{factor:,.0f} times"


def than(comparison: str, reference: str) -> str:
    """A comparison with its reference: ``"15 % slower than float"``, ``"as fast as float"``."""
    word = {"as": "as", "not": "with"}.get(comparison.split()[0], "than")
    return f"{comparison} {word} {reference}"


def percent(share: float) -> str:
    """A share with one decimal, which is 0 or 100 only where nothing or all is meant."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"
