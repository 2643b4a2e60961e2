"""Render a comparison as a page: the winner, a plot, bars, and the table with its reasons.

The page is one file that needs no network. It is made of the parts of a report's page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qreg.comparison.bars import panels
from qreg.comparison.text import headline, line, rows
from qreg.comparison.values import FLOAT
from qreg.comparison.winner import sentence, winner
from qreg.comparison.words import ratios
from qreg.report.next_steps import next_steps
from qreg.report.page.numbers import size
from qreg.report.page.scatter import BROAD, NARROW, Scatter, Spot, scatter
from qreg.report.page.table import Line, Table
from qreg.report.page.templates import checksum, environment, script, style
from qreg.report.page.verdicts import Verdict

if TYPE_CHECKING:
    from qreg.comparison.values import ComparisonData, Entry

WORDS = frozenset({"backend", "config", "loads", "verdict"})  # columns that are not numbers


def render(found: ComparisonData, links: Mapping[str, str]) -> str:
    """Return the whole page; ``links`` are those to the report of each backend, by its name."""
    shared = script()
    return (
        environment("qreg.comparison")
        .get_template("comparison.html")
        .render(
            model=found.model,
            headline=headline(found),
            verdicts=[verdict(found)],
            plots=[("broad", plot(found)), ("narrow", plot(found, NARROW))],
            panels=panels(found),
            table=_table(found, links),
            style=style(),
            scripts=[shared],
            hashes=[checksum(shared)],
        )
    )


def verdict(found: ComparisonData) -> Verdict:
    """Return which backend wins, and why."""
    best = winner(found)
    words = f"{best.backend} wins" if best else "No winner"
    return Verdict("Which backend", "good" if best else "bad", words, sentence(found))


def plot(found: ComparisonData, width: float = BROAD) -> Scatter | None:
    """Return the programs by latency, SQNR and size; None unless one was timed and compared."""
    best = winner(found)
    measured = [
        (each, each.milliseconds, each.sqnr_to_float)
        for each in found.entries
        if each.works and each.milliseconds is not None and _is_finite(each.sqnr_to_float)
    ]
    if not measured:
        return None
    spots = [
        Spot(
            latency,
            sqnr or 0.0,
            each.bytes or 0,
            _short(each.backend),
            f"{line(each)}, {latency:.3g} ms, {size(each.bytes or 0)}",
            _kinds(each, is_best=each is best),
        )
        for each, latency, sqnr in measured
    ]
    title = "SQNR to float in dB against the latency in ms"
    return scatter(spots, axis="latency in ms", title=title, width=width, unit=" dB")


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _short(name: str, most: int = 18) -> str:
    """Return a name without its middle if it is too long for a label."""
    half = most // 2 - 1
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def _kinds(entry: Entry, *, is_best: bool) -> tuple[str, ...]:
    found = {"met": entry.verdict == "good", "best": is_best}
    return tuple(kind for kind, applies in found.items() if applies)


def _table(found: ComparisonData, links: Mapping[str, str]) -> Table | None:
    plain = next((each for each in found.entries if each.backend == FLOAT), None)
    lines = [
        Line(
            row,
            link=links.get(each.backend),
            remarks=_remarks(each, plain),
            failed=not each.works,
        )
        for each, row in zip(found.entries, rows(found), strict=True)
    ]
    return Table("Backends", lines, stack=True, words=WORDS) if lines else None


def _remarks(entry: Entry, plain: Entry | None) -> tuple[str, ...]:
    """Return the reason of a failure with its remedy, or what to know of a program and to do."""
    if entry.failure is not None:
        return (entry.failure, *entry.notes)
    compared = ", ".join(ratios(entry, plain)) if plain and entry is not plain else ""
    remedy = ""
    if entry.verdict == "poor" and entry.report is not None:
        remedy = next((f"Next: {each.code}" for each in next_steps(entry.report)), "")
    return tuple(filter(None, (compared, *entry.notes, remedy)))
