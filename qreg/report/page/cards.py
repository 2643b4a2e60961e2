"""The summary numbers at the top of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.page.numbers import decibels, share, short, size
from qreg.report.text import program_size
from qreg.utils.wording import percent, speed, than

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
    yield Card("Operators in int8", f"{int8:,}", f"of {count:,}, {share(int8, count)}{decided}")
    yield _work(report)
    yield _size(report)
    if report.delegates is not None:
        yield _delegates(report)
    if report.timing is not None:
        yield _latency(report)
    yield _verified(report)


def _work(report: ReportData) -> Card:
    share, left = report.int8_share, len(report.uncounted)
    value = "—" if share is None else percent(share)
    counted = f"of {short(report.macs)}" if report.macs else "none counted"
    note = f"{counted}; those of {left} operator{'s' * (left > 1)} are not counted"
    return Card(
        "Multiply-accumulates in int8",
        value,
        note if left else counted,
        warns=bool(left) or (share is not None and share < 0.5),
    )


def _size(report: ReportData) -> Card:
    sizes = report.sizes
    parameters = f"float parameters {size(sizes.float_parameters)}"
    if sizes.program is None:
        return Card("Program", "—", f"none was made; {parameters}")
    larger = sizes.program > sizes.float_parameters
    note = f"{program_size(report)}, {size(sizes.float_parameters)}"
    return Card("Program", size(sizes.program), note, warns=larger)


def _delegates(report: ReportData) -> Card:
    left = len(report.outside)
    note = f"{left} operator{'s' * (left > 1)} not delegated" if left else "all delegated"
    return Card("Delegates", str(report.delegates), note, warns=bool(left))


def _latency(report: ReportData) -> Card:
    found = report.timing
    assert found is not None
    ratio = than(speed(found.milliseconds, found.float_milliseconds), "float")
    note = f"{ratio}, which takes {found.float_milliseconds:.3g} ms"
    return Card("Latency", f"{found.milliseconds:.3g} ms", note, warns=found.is_slower)


def _verified(report: ReportData) -> Card:
    found = report.verification
    if found is None:
        return Card("SQNR of outputs", "—", report.unverified, warns=True)
    worst = found.worst_sqnr
    value = "—" if worst is None else decibels(worst)
    note = f"the worst slice, {found.samples} inputs in {found.runtime}, against float"
    if not found.good:
        note = f"below {found.min_sqnr:g} dB: {note}"
    return Card("SQNR of outputs", value, note, warns=not found.good)
