"""Render the outcome of a search as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from qreg.tuning.values import FLOAT
from qreg.utils.tables import WIDE, table
from qreg.utils.wording import percent, speed, than

if TYPE_CHECKING:
    from qreg.tuning.values import Move, Trial, TunedData
    from qreg.utils.tables import Row
    from qreg.verification.latency import Timing

NOTHING_RUNS = "Remove the cause, or pass another config or backend"
FAR = (
    "Allow more evaluations with budget=, a larger max_drop=, or another config or backend, or "
    "calibrate with more data"
)


def print_tuned(found: TunedData, console: Console) -> None:
    """Print the verdict, the trials, and what was moved and why."""
    for line in headlines(found):
        console.print(line, markup=False, highlight=False)
    console.print(table(rows(found)))
    for line in (*reasons(found), *remarks(found)):
        console.print(line, markup=False, highlight=False)


def text(found: TunedData) -> str:
    """Return what ``print_tuned`` prints as a string."""
    console = Console(width=WIDE, force_terminal=False)
    with console.capture() as captured:
        print_tuned(found, console)
    return captured.get()


def headlines(found: TunedData) -> Iterator[str]:
    """Yield the verdict, and how it was reached."""
    yield f"{found.model}: {verdict(found)}"
    direction = "at most" if found.lower_is_better else "at least"
    count = found.evaluations
    yield (
        f"float {found.float_metric:.6g}, limit {direction} {found.limit:.6g}; "
        f"{len(found.trials)} trial{'s' * (len(found.trials) != 1)}, "
        f"{count} evaluation{'s' * (count != 1)} of programs"
    )
    if found.timing is not None and not found.timing.is_slower:
        yield f"latency {found.timing.milliseconds:.3f} ms, {_than_float(found.timing)}"


def _than_float(timing: Timing) -> str:
    return than(speed(timing.milliseconds, timing.float_milliseconds), "float")


def verdict(found: TunedData) -> str:
    """Return whether the limit is met, and by what."""
    best = found.best
    if best is None or best.metric is None:
        return "NOT MET: no program was evaluated"
    if not found.met:
        program = f"{best.variant.backend} {best.variant}"
        return f"NOT MET: the best program, {program}, has {best.metric:.6g}"
    return f"met by {best.variant.backend} {best.variant}, with {found.confirmed:.6g}"


def rows(found: TunedData) -> list[Row]:
    """Return a row for each trial."""
    numbered = enumerate(found.trials, 1)
    return [row(each, number, is_best=each is found.best) for number, each in numbered]


def row(trial: Trial, number: int, *, is_best: bool = False) -> Row:
    """Return the row of a trial in a table."""
    return {
        "trial": str(number),
        "backend": trial.variant.backend,
        "config": trial.variant.config,
        "algorithms": ", ".join(trial.kept) or ("none kept" if trial.variant.algorithms else ""),
        "moved": moved(trial.variant.moves),
        "metric": "" if trial.metric is None else f"{trial.metric:.6g}",
        "int8 MACs": "" if trial.int8_share is None else percent(trial.int8_share),
        "bytes": "" if trial.bytes is None else f"{trial.bytes:,}",
        "ms": "" if trial.milliseconds is None else f"{trial.milliseconds:.3f}",
        "verdict": word(trial) + (", best" if is_best else ""),
    }


def word(trial: Trial) -> str:
    """Return the verdict on a trial in a word."""
    if trial.metric is None:
        return "FAILED" if trial.bytes is None or trial.evaluated else "not run here"
    if trial.unconfirmed:
        return "not confirmed"
    if trial.refuted is not None:
        return f"{trial.refuted:.6g} at first"
    return ("met" if trial.met else "missed") + ("" if trial.evaluated else ", same program")


LINE = "{trial:>5}  {metric:>10}  {int8:>9}  {bytes:>12}  {ms:>9}  {verdict:<12}  {what}"
HEADING = LINE.format(
    trial="trial",
    metric="metric",
    int8="int8 MACs",
    bytes="bytes",
    ms="ms",
    verdict="verdict",
    what="what",
)


def line(trial: Trial, number: int) -> str:
    """Return a trial as a line below ``HEADING``, for a table that grows."""
    cells = row(trial, number)
    what = f"{trial.variant.backend} {trial.variant}"
    return LINE.format(
        **{**cells, "int8": cells["int8 MACs"], "verdict": word(trial)},
        what=what if trial.failure is None else f"{what}: {trial.failure.splitlines()[0]}",
    )


def moved(moves: tuple[Move, ...]) -> str:
    """Return the numbers of patterns that were moved, by where they went."""
    counts: dict[str, int] = defaultdict(int)
    for each in moves:
        counts[each.config] += 1
    return ", ".join(f"{count} to {config}" for config, count in counts.items())


def reasons(found: TunedData) -> Iterator[str]:
    """Yield why patterns of the best program are not in its config, the noisiest first."""
    if found.best is None:
        return
    for each in sorted(found.best.variant.moves, key=lambda one: -(one.share or 0.0)):
        where = "stays in float" if each.config == FLOAT else f"is in {each.config}"
        operators = " + ".join(place.operator for place in each.places)
        module = each.places[0].module or "the model"
        why = (
            "the program fails with it"
            if each.share is None
            else f"it makes {percent(each.share)} of the noise of all patterns"
        )
        yield f"{operators} of {module} {where}: in {found.best.variant.config} {why}"


def remarks(found: TunedData) -> Iterator[str]:
    """Yield failures, notes, the noise of the metric, and what stands in the way."""
    for number, each in enumerate(found.trials, 1):
        if each.failure is not None:
            yield f"trial {number}: {each.failure}"
    yield from general(found)


def general(found: TunedData) -> Iterator[str]:
    """Yield the remarks that are not the failure of a trial."""
    if found.noise:
        yield (
            f"two evaluations of the same program differ by {found.noise:.3g}: differences of that "
            "size between trials mean nothing"
        )
    if found.timing is not None and found.timing.is_slower:
        latency = f"{found.timing.milliseconds:.3f} ms, {_than_float(found.timing)}"
        yield (
            f"the best program takes {latency} in the same runtime: quantizing this model saves no "
            "time there"
        )
    yield from dict.fromkeys(found.notes)
    if not found.met:
        yield from obstacles(found)


def obstacles(found: TunedData) -> Iterator[str]:
    """Yield what stands in the way of the limit."""
    if found.best is None:  # the failures of the trials say why
        return
    left = found.best.int8_share
    inside = "" if left is None else f", with {percent(left)} of its work in int8"
    fact = (
        "could not be evaluated again"
        if found.best.unconfirmed
        else f"misses the limit by {_missing(found):.3g}"
    )
    yield f"the best program {fact}{inside}"
    if not any(each.variant.moves for each in found.trials):
        yield (
            "no pattern was moved: the budget of evaluations was spent, no operator has noise that "
            "reaches the outputs, or programs failed"
        )


def _missing(found: TunedData) -> float:
    metric = found.best.metric if found.best and found.best.metric is not None else float("nan")
    return abs(metric - found.limit)


def why_not(found: TunedData) -> str:
    """Return the message for a limit that is not met."""
    facts = "; ".join([*obstacles(found), *(_first_failure(found))])
    direction = "at most" if found.lower_is_better else "at least"
    remedy = NOTHING_RUNS if found.best is None else FAR
    return f"tune: {verdict(found)} (expected {direction} {found.limit:.6g}): {facts}. {remedy}"


def _first_failure(found: TunedData) -> list[str]:
    failures = [each.failure.rstrip(".") for each in found.trials if each.failure is not None]
    return failures[:1]
