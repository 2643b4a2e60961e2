"""Lay out the trials as a Pareto plot: the metric against the latency, with the size as area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg.report.page.numbers import size
from qreg.report.page.scatter import BROAD, Level, Scatter, Spot, scatter
from qreg.tuning.text import word

if TYPE_CHECKING:
    from qreg.tuning.values import Trial, TunedData


def plot(found: TunedData, width: float = BROAD) -> Scatter | None:
    """Return the plot of the trials that were measured; None if there are none.

    Backends without latencies are plotted by the size of their programs.
    """
    trials = [each for each in found.trials if each.metric is not None]
    if not trials:
        return None
    timed = [each for each in trials if each.milliseconds is not None]
    shown = timed or trials
    across = [_across(each, bool(timed)) for each in shown]
    front = _front(found, shown, across)
    spots = [
        Spot(
            position,
            each.metric or 0.0,
            each.bytes or 0,
            str(found.trials.index(each) + 1),
            f"{each.variant.backend} {each.variant}: {each.metric:.6g}, {word(each)}, "
            f"{size(each.bytes or 0)}",
            _kinds(each, found, front),
        )
        for each, position in zip(shown, across, strict=True)
    ]
    axis = "latency in ms" if timed else "size in bytes"
    return scatter(
        spots,
        axis=axis,
        title=f"The metric of each trial against its {axis}",
        levels=[Level(found.float_metric, "float", plain=True), Level(found.limit, "limit")],
        width=width,
    )


def _kinds(trial: Trial, found: TunedData, front: Sequence[Trial]) -> tuple[str, ...]:
    applies = {"met": trial.met, "front": trial in front, "best": trial is found.best}
    return tuple(kind for kind, each in applies.items() if each)


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
