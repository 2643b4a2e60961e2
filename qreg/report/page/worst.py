"""The noisiest operators, as the bars of a chart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.page.numbers import decibels, share
from qreg.report.page.states import State, state_of

if TYPE_CHECKING:
    from qreg.report.values import ReportData

SHOWN = 20


@frozen
class Bar:
    """``start`` and ``length`` are percentages of the chart's width."""

    name: str
    module: str
    state: State
    sqnr: str
    macs: str
    start: float
    length: float


def worst(report: ReportData) -> list[Bar]:
    """Return the operators with the most noise, the noisiest first; noiseless ones are skipped.

    Bars begin at 0 dB, where the noise is as strong as the signal: the shorter the bar, the worse.
    """
    noisy = [each for each in report.worst if math.isfinite(each.sqnr or 0.0)][:SHOWN]
    values = [each.sqnr or 0.0 for each in noisy]
    low, high = min([0.0, *values]), max([1.0, *values])
    return [
        Bar(
            name=each.name,
            module=each.module,
            state=state_of(each),
            sqnr=decibels(value),
            macs=share(each.macs, report.macs) if each.macs else "",
            start=round(100 * (min(value, 0.0) - low) / (high - low), 2),
            length=round(100 * abs(value) / (high - low), 2),
        )
        for each, value in zip(noisy, values, strict=True)
    ]
