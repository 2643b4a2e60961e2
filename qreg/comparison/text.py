"""Render a comparison as a table of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from qreg.comparison.values import FLOAT
from qreg.comparison.winner import sentence
from qreg.comparison.words import decibels, ratios
from qreg.utils.tables import WIDE, table
from qreg.utils.wording import percent

if TYPE_CHECKING:
    from qreg.comparison.values import ComparisonData, Entry
    from qreg.utils.tables import Row


def print_comparison(found: ComparisonData, console: Console) -> None:
    """Print a headline with the conditions, the table, the winner and the remarks."""
    console.print(headline(found))
    console.print(table(rows(found)))
    if len(found.entries) > 1:
        console.print(sentence(found), markup=False, highlight=False)
    for line in remarks(found):
        console.print(line, markup=False, highlight=False)


def text(found: ComparisonData) -> str:
    """Return what ``print_comparison`` prints as a string."""
    console = Console(width=WIDE, force_terminal=False)
    with console.capture() as captured:
        print_comparison(found, console)
    return captured.get()


def headline(found: ComparisonData) -> str:
    threads = "as many threads as each runtime chooses"
    if found.threads:
        threads = f"{found.threads} thread{'s' * (found.threads > 1)}"
    return f"{found.model}: the fastest tenth of {found.rounds} rounds in turns, {threads}"


def line(entry: Entry) -> str:
    """Return the results of one backend, but for its latency, in a line."""
    if entry.failure is not None:
        return f"{entry.backend}: FAILED: {entry.failure}"
    ratio = entry.sqnr_to_float
    parts = (
        entry.config,
        None if ratio is None else f"{decibels(ratio)} to float",
        entry.verdict,
        None if entry.bytes is None else f"{entry.bytes:,} bytes",
        None if entry.operators is None else f"{counted(entry)} operators in int8",
    )
    return f"{entry.backend}: {', '.join(filter(None, parts))}"


def rows(found: ComparisonData) -> list[Row]:
    return [
        {
            "backend": each.backend,
            "config": each.config or "",
            "loads": _loads(each),
            "SQNR to float": decibels(each.sqnr_to_float),
            "verdict": each.verdict or "",
            "to converted": decibels(each.sqnr_to_converted),
            "cosine": "" if each.cosine is None else f"{each.cosine:.4f}",
            "bytes": "" if each.bytes is None else f"{each.bytes:,}",
            "ms": "" if each.milliseconds is None else f"{each.milliseconds:.3f}",
            "int8 operators": counted(each),
            "int8 MACs": "" if each.int8_share is None else percent(each.int8_share),
        }
        for each in found.entries
    ]


def _loads(entry: Entry) -> str:
    if not entry.works:
        return "FAILED"
    return "yes" if entry.runs else "not run here"


def counted(entry: Entry) -> str:
    return "" if entry.operators is None else f"{entry.int8_operators} of {entry.operators}"


def remarks(found: ComparisonData) -> Iterator[str]:
    """Yield the remarks about single backends, one sentence each."""
    plain = next((each for each in found.entries if each.backend == FLOAT), None)
    for each in found.entries:
        if each.failure is not None:
            yield f"{each.backend}: {each.failure}"
        for note in each.notes:
            yield f"{each.backend}: {note}"
        compared = list(ratios(each, plain)) if plain is not None and each is not plain else []
        if compared:
            yield f"{each.backend}: {', '.join(compared)}"
