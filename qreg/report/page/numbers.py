"""Numbers in readable form, the same throughout the page."""

from __future__ import annotations

import math

from qreg.utils.wording import percent

UNITS = ("", "k", "M", "G", "T")
BYTES = ("bytes", "kB", "MB", "GB")


def decibels(value: float) -> str:
    """Return a signal-to-noise ratio in dB; ``"exact"`` without noise."""
    return f"{value:.1f} dB" if math.isfinite(value) else "exact" if value > 0 else "no signal"


def share(part: float, whole: float) -> str:
    return percent(part / whole) if whole else "—"


def short(value: float) -> str:
    """Return a count with three significant digits."""
    return " ".join(_scaled(value, UNITS)).strip()


def size(count: float) -> str:
    """Return a number of bytes with three significant digits."""
    return " ".join(_scaled(count, BYTES))


def _scaled(value: float, units: tuple[str, ...]) -> tuple[str, str]:
    power = 0
    while abs(value) >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return (f"{value:.3g}", units[power])
