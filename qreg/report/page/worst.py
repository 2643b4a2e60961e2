"""The operators that cost most, as the bars of a chart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.cautions import some
from qreg.report.page.numbers import decibels, share
from qreg.report.page.states import State, state_of

if TYPE_CHECKING:
    from qreg.report.values import ReportData

SHOWN = 20


@frozen
class Bar:
    """``start`` and ``length`` are percentages of the chart's width."""

    name: str
    label: str
    title: str
    state: State
    value: str
    note: str
    start: float
    length: float


def worst(report: ReportData) -> list[Bar]:
    """Return the patterns with the largest drop, or the noisiest operators if that is all known.

    Without a drop and without noise there is no bar.
    """
    return _by_drop(report) if report.sensitivity else _by_noise(report)


def _by_drop(report: ReportData) -> list[Bar]:
    """Return the patterns, the largest drop first; the longer the bar, the worse."""
    operators = {each.name: each for each in report.operators}
    drops = [each for each in report.sensitivity if each.share][:SHOWN]
    return [
        Bar(
            name=each.pattern[0],
            label=some(each.pattern),
            title=each.module,
            state=state_of(operators[each.pattern[0]]),
            value="all of it" if math.isinf(each.drop) else f"{each.drop:.2f} dB",
            note=f"{decibels(each.sqnr)} alone",
            start=0.0,
            length=round(100 * each.share / drops[0].share, 2),
        )
        for each in drops
    ]


def _by_noise(report: ReportData) -> list[Bar]:
    """Return the operators with the most noise, the noisiest first; noiseless ones are skipped.

    Bars begin at 0 dB, where the noise is as strong as the signal: the shorter the bar, the worse.
    """
    noisy = [each for each in report.worst if math.isfinite(each.sqnr or 0.0)][:SHOWN]
    values = [each.sqnr or 0.0 for each in noisy]
    low, high = min([0.0, *values]), max([1.0, *values])
    return [
        Bar(
            name=each.name,
            label=each.name,
            title=each.module,
            state=state_of(each),
            value=decibels(value),
            note=f"{share(each.macs, report.macs)} of MACs" if each.macs else "",
            start=round(100 * (min(value, 0.0) - low) / (high - low), 2),
            length=round(100 * abs(value) / (high - low), 2),
        )
        for each, value in zip(noisy, values, strict=True)
    ]
