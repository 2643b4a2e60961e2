"""The summary numbers below the verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.page.numbers import share, short
from qreg.utils.wording import percent

if TYPE_CHECKING:
    from qreg.report.values import ReportData


@frozen
class Card:
    """A number in large type, with a note that explains it; ``warns`` marks a bad value."""

    label: str
    value: str
    note: str
    warns: bool = False


def cards(report: ReportData) -> list[Card]:
    return list(_cards(report))


def _cards(report: ReportData) -> Iterator[Card]:
    count, int8 = len(report.operators), report.counts["int8"]
    decided = "" if report.delegates is not None else ", as decided"
    title = f"Operators in {' and '.join(report.precisions)}"
    yield Card(title, f"{int8:,}", f"of {count:,}, {share(int8, count)}{decided}")
    yield _work(report)
    if report.delegates is not None:
        yield _delegates(report)


def _work(report: ReportData) -> Card:
    share, left = report.int8_share, len(report.uncounted)
    value = "—" if share is None else percent(share)
    counted = f"of {short(report.macs)}" if report.macs else "none counted"
    note = f"{counted}; those of {left} operator{'s' * (left > 1)} are not counted"
    return Card(
        f"Multiply-accumulates in {' and '.join(report.precisions)}",
        value,
        note if left else counted,
        warns=bool(left) or (share is not None and share < 0.5),
    )


def _delegates(report: ReportData) -> Card:
    left = len(report.outside)
    note = f"{left} operator{'s' * (left > 1)} not delegated" if left else "all delegated"
    return Card("Delegates", str(report.delegates), note, warns=bool(left))
