"""Ratios, shares and types in words, the same wherever qreg prints them."""

from __future__ import annotations

import math

ALIKE = 1.03  # the ratio up to which two measurements count as equal
TIMES = 1.5  # the ratio from which it is written as a factor, and below which in percent


def speed(time: float, reference: float) -> str:
    """Compare a time with another: ``"1.9 times faster"``, ``"15 % slower"``, ``"as fast"``.

    The result is ``"not comparable"`` if either is 0 or not finite.
    """
    return _compared(time, reference, "faster", "slower", "as fast")


def size(count: float, reference: float) -> str:
    """Compare a number of bytes with another: ``"2.8 times smaller"``, ``"12 % larger"``."""
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
    """Add a reference to a comparison: ``"15 % slower than float"``, ``"as fast as float"``."""
    word = {"as": "as", "not": "with"}.get(comparison.split()[0], "than")
    return f"{comparison} {word} {reference}"


def percent(share: float) -> str:
    """Return a share in percent with one decimal; only exact shares are written as 0 or 100."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def a_type(value: object) -> str:
    """Return the type of a value with its article: ``"an int"``, ``"a list"``, ``"None"``."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``"1 input"``, ``"2 inputs"``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
