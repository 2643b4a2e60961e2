"""Lay out the trials as a Pareto plot: the metric against the latency, with the size as area."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.page.numbers import size
from qreg.tuning.text import word

if TYPE_CHECKING:
    from qreg.tuning.values import Trial, TunedData

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 84, 24, 20, 52  # of the area of the points
LARGEST, LEAST = 22.0, 5.0  # radii
TICKS = 5


@frozen
class Point:
    """A trial in the plot. ``label`` is its number, ``title`` what a pointer shows."""

    x: float
    y: float
    radius: float
    label: str
    title: str
    met: bool
    best: bool
    front: bool


@frozen
class Tick:
    """A position on an axis, with its number as text."""

    at: float
    text: str


@frozen
class Plot:
    """The points and the axes; ``limit`` and ``plain`` are the heights of the limit and float."""

    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    limit: float
    plain: float
    axis: str


def plot(found: TunedData) -> Plot | None:
    """Return the plot of the trials that were measured; None if there are none.

    Backends without latencies are plotted by the size of their programs.
    """
    trials = [each for each in found.trials if each.metric is not None]
    if not trials:
        return None
    timed = [each for each in trials if each.milliseconds is not None]
    shown = timed or trials
    across = [_across(each, bool(timed)) for each in shown]
    across_scale = Scale.of(across, LEFT, WIDTH - RIGHT, from_zero=True)
    metrics = [each.metric for each in shown if each.metric is not None]
    up_scale = Scale.of([*metrics, found.limit, found.float_metric], HEIGHT - BOTTOM, TOP)
    largest = max(each.bytes or 0 for each in shown) or 1
    front = _front(found, shown, across)
    points = [
        Point(
            x=across_scale(position),
            y=up_scale(each.metric or 0.0),
            radius=max(LEAST, LARGEST * math.sqrt((each.bytes or 0) / largest)),
            label=str(found.trials.index(each) + 1),
            title=f"{each.variant.backend} {each.variant}: {each.metric:.6g}, {word(each)}, "
            f"{size(each.bytes or 0)}",
            met=each.met,
            best=each is found.best,
            front=each in front,
        )
        for each, position in zip(shown, across, strict=True)
    ]
    return Plot(
        points=tuple(sorted(points, key=lambda each: -each.radius)),
        across=across_scale.ticks,
        up=up_scale.ticks,
        limit=up_scale(found.limit),
        plain=up_scale(found.float_metric),
        axis="latency in ms" if timed else "size in bytes",
    )


def _across(trial: Trial, timed: bool) -> float:
    return float((trial.milliseconds if timed else trial.bytes) or 0.0)


def _front(found: TunedData, trials: Sequence[Trial], across: Sequence[float]) -> list[Trial]:
    """Return the trials that no other is better than in one number and as good in the other."""
    sign = -1 if found.lower_is_better else 1
    values = [
        (-position, sign * (each.metric or 0.0))
        for each, position in zip(trials, across, strict=True)
    ]
    return [
        trial
        for trial, one in zip(trials, values, strict=True)
        if not any(other != one and all(map(_at_least, other, one)) for other in values)
    ]


def _at_least(one: float, other: float) -> bool:
    return one >= other


@frozen
class Scale:
    """A linear map from numbers to positions."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(
        cls, values: Sequence[float], start: float, end: float, *, from_zero: bool = False
    ) -> Scale:
        """Return a scale with a margin around finite values."""
        finite = [each for each in values if math.isfinite(each)] or [0.0]
        low, high = min(finite), max(finite)
        margin = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(0.0 if from_zero else low - margin, high + margin, start, end)

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
            Tick(self(number * step), f"{number * step:.6g}") for number in range(first, last + 1)
        )


def _round(step: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step * 0.999)
