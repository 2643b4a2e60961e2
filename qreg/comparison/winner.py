"""Which backend to choose: the fastest program that is close to float."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from qreg.comparison.values import FLOAT
from qreg.comparison.words import decibels, ratios
from qreg.report.page.numbers import size

if TYPE_CHECKING:
    from qreg.comparison.values import ComparisonData, Entry


def winner(found: ComparisonData) -> Entry | None:
    """Return the fastest program that is close to float, or the smallest if none was timed.

    None if no program was run and is close to float.
    """
    close = [each for each in _programs(found) if each.verdict == "good"]
    timed = [each for each in close if each.milliseconds is not None]
    if timed:
        return min(timed, key=lambda each: each.milliseconds or 0.0)
    return min(close, key=lambda each: each.bytes or math.inf, default=None)


def sentence(found: ComparisonData) -> str:
    """Return the winner and its numbers, and what other programs are better in."""
    best = winner(found)
    if best is None:
        return f"No program is close to float: {_none_because(found)}"
    how = "is the smallest" if best.milliseconds is None else "is the fastest"
    plain = next((each for each in found.entries if each.backend == FLOAT), None)
    facts = [
        "" if best.milliseconds is None else f"{best.milliseconds:.3g} ms",
        *(ratios(best, plain) if plain else ()),
        f"{decibels(best.sqnr_to_float)} to float",
    ]
    first = f"{best.backend} {how} of the programs that are close to float"
    return "; ".join([f"{first}: {', '.join(filter(None, facts))}", *_others(found, best)])


def _programs(found: ComparisonData) -> list[Entry]:
    return [each for each in found.entries if each.works and each.backend != FLOAT]


def _others(found: ComparisonData, best: Entry) -> Iterator[str]:
    """Yield the programs that are smaller, or closer to float, than the winner."""
    close = [each for each in _programs(found) if each.verdict == "good"]
    least = min(close, key=_bytes)
    if _bytes(least) < _bytes(best):
        yield f"{least.backend} is smaller ({size(least.bytes or 0)})"
    nearest = max(close, key=_ratio)
    if _ratio(nearest) > _ratio(best):
        yield f"{nearest.backend} is closer to float ({decibels(nearest.sqnr_to_float)})"


def _none_because(found: ComparisonData) -> str:
    programs = _programs(found)
    counts: list[tuple[str, Callable[[Entry], bool]]] = [
        ("far from float", lambda each: each.verdict == "poor"),
        ("not run here", lambda each: each.verdict is None),
    ]
    failed = sum(not each.works for each in found.entries)
    counted = [(word, sum(map(test, programs))) for word, test in counts]
    listed = [f"{count} {word}" for word, count in [*counted, ("failed", failed)] if count]
    return ", ".join(listed) or "no backend was compared"


def _bytes(entry: Entry) -> float:
    return math.inf if entry.bytes is None else entry.bytes


def _ratio(entry: Entry) -> float:
    return -math.inf if entry.sqnr_to_float is None else entry.sqnr_to_float
