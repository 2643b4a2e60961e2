"""Lay out the numbers of a comparison as bars: a panel per number, with a bar per backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.comparison.values import FLOAT
from qreg.comparison.words import decibels
from qreg.report.page.numbers import size
from qreg.utils.wording import percent

if TYPE_CHECKING:
    from qreg.comparison.values import ComparisonData, Entry


@frozen
class Bar:
    """One backend in a panel; ``start`` and ``length`` are percentages of the panel's width."""

    backend: str
    text: str
    start: float
    length: float
    plain: bool  # the float model


@frozen
class Panel:
    """The bars of one number; ``zero`` is the position of 0, in percent of the width."""

    title: str
    hint: str
    zero: float
    bars: tuple[Bar, ...]


@frozen
class Quantity:
    """A number of an entry: its title, how to read it from the entry, and how to format it."""

    title: str
    hint: str
    of: Callable[[Entry], float | None]
    text: Callable[[float], str]
    full: float = 0.0  # the panel's full width shows the largest value, and at least this one


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"


QUANTITIES = (
    Quantity("Latency", "less is better", lambda entry: entry.milliseconds, _milliseconds),
    Quantity("SQNR to float", "more is better", lambda entry: entry.sqnr_to_float, decibels),
    Quantity("Program", "less is better", lambda entry: entry.bytes, size),
    Quantity("Multiply-accumulates in int8", "", lambda entry: entry.int8_share, percent, full=1.0),
)


def panels(found: ComparisonData) -> list[Panel]:
    """Return the panels that have at least one number; a backend that failed has no bars."""
    working = [entry for entry in found.entries if entry.works]
    return [
        _panel(quantity, working)
        for quantity in QUANTITIES
        if any(quantity.of(entry) is not None for entry in working)
    ]


def _panel(quantity: Quantity, entries: list[Entry]) -> Panel:
    values = [quantity.of(entry) for entry in entries]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = min([0.0, *finite]), max([quantity.full, *finite])
    if math.inf in values and not high:
        high = max(1.0, -low)
    span = (high - low) or 1.0
    bars = []
    for entry, value in zip(entries, values, strict=True):
        end = _drawn(value, high)
        bars.append(
            Bar(
                backend=entry.backend,
                text="—" if value is None else quantity.text(value),
                start=round(100 * (min(end, 0.0) - low) / span, 2),
                length=round(100 * abs(end) / span, 2),
                plain=entry.backend == FLOAT,
            )
        )
    return Panel(quantity.title, quantity.hint, round(-100 * low / span, 2), tuple(bars))


def _drawn(value: float | None, high: float) -> float:
    """Return where a bar ends: an infinite value fills the panel, None and NaN have no bar."""
    if value is None or math.isnan(value):
        return 0.0
    return value if math.isfinite(value) else max(0.0, math.copysign(high, value))
