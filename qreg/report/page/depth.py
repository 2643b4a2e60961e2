"""The SQNR over the depth of the model, as a chart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.blocks import stacks
from qreg.report.page.numbers import decibels

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData

WIDTH, NARROW, HEIGHT = 1000.0, 330.0, 220.0  # of the chart, in units of its view box
MARGIN = 6.0  # above and below, for points at the border
TICKS = (5, 10, 20, 50)  # dB between lines; the first with few enough lines
LINES = 7


@frozen
class Point:
    """A pattern; ``x`` and ``y`` are in units of the view box, ``text`` says what it is."""

    name: str
    x: float
    y: float
    text: str


@frozen
class Tick:
    """A horizontal line, and its label in dB."""

    y: float
    label: str


@frozen
class Depth:
    """The chart: operators from left to right, in the order of the graph, and dB upwards.

    ``line`` is the SQNR of each operator's output, as points of an SVG polyline, and ``outputs``
    that of repeated blocks, one polyline for each stack. ``points`` are the SQNR of the model's
    outputs for each pattern that is quantized alone.
    """

    line: str
    points: Sequence[Point]
    ticks: Sequence[Tick]
    outputs: Sequence[Sequence[Point]] = ()
    width: float = WIDTH
    height: float = HEIGHT


def depth(report: ReportData, width: float = WIDTH) -> Depth | None:
    """Return the chart of a width; None if no noise was measured."""
    along = list(enumerate(report.operators))
    line = [(at, each.sqnr) for at, each in along if _is_finite(each.sqnr)]
    alone = [(at, each) for at, each in along if _is_first(each) and _is_finite(each.isolated_sqnr)]
    values = [sqnr or 0.0 for _, sqnr in line] + [each.isolated_sqnr or 0.0 for _, each in alone]
    if not values:
        return None
    places = {each.name: at for at, each in along}
    low, high = min([0.0, *values]), max([10.0, *values])

    def x(at: int) -> float:
        return round(width * (at + 0.5) / len(along), 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low)
        return round(MARGIN + (HEIGHT - 2 * MARGIN) * (1 - share), 1)

    return Depth(
        width=width,
        line=" ".join(f"{x(at)},{y(sqnr or 0.0)}" for at, sqnr in line),
        points=[
            Point(each.name, x(at), y(value), f"{each.name}: {decibels(value)}")
            for at, each in alone
            if (value := each.isolated_sqnr) is not None
        ],
        outputs=[
            [
                Point(last.name, x(places[last.name]), y(value), f"{name}: {decibels(value)}")
                for name, last in stack.outputs
                if (value := last.sqnr) is not None and math.isfinite(value)
            ]
            for stack in stacks(report.operators)
        ],
        ticks=[Tick(y(value), f"{value:g} dB") for value in _ticks(low, high)],
    )


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _is_first(operator: Operator) -> bool:
    """Whether an operator is the first of its pattern, which has one point."""
    return not operator.pattern or operator.pattern[0] == operator.name


def _ticks(low: float, high: float) -> Iterator[float]:
    step = next((each for each in TICKS if (high - low) / each <= LINES), TICKS[-1])
    first = math.ceil(low / step)
    yield from (step * each for each in range(first, math.floor(high / step) + 1))
