"""The verdict on a program in words: is it correct, small and fast?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from qreg.report.cautions import is_larger
from qreg.report.page.numbers import decibels, size
from qreg.utils.wording import size as sized
from qreg.utils.wording import speed, than

if TYPE_CHECKING:
    from qreg.report.values import ReportData

Kind: TypeAlias = Literal["good", "warn", "bad", "open"]
SIGNS: dict[Kind, str] = {"good": "✓", "warn": "▲", "bad": "✕", "open": "?"}


@frozen
class Verdict:
    """An answer: what it is about, ``words`` to read first, and the numbers behind them.

    ``kind`` selects its colour and shape; ``"open"`` is what was not measured.
    """

    about: str
    kind: Kind
    words: str
    note: str

    @property
    def sign(self) -> str:
        return SIGNS[self.kind]


def verdicts(report: ReportData) -> list[Verdict]:
    """Return the verdicts on accuracy, size and speed."""
    return [_correct(report), _small(report), _fast(report)]


def _correct(report: ReportData) -> Verdict:
    about, found = "Accuracy", report.verification
    if found is None:
        made = report.delegates is not None
        return Verdict(about, "open", "Not verified", _unverified(report) if made else NO_PROGRAM)
    worst = "" if found.worst_sqnr is None else f"{decibels(found.worst_sqnr)} at worst, "
    ran = f"{worst}{found.samples} inputs in {found.runtime}"
    if not found.good:
        return Verdict(about, "bad", "Far from float", f"{ran}; below {found.min_sqnr:g} dB")
    if report.defects:
        count = len(report.defects)
        defects = f"{count} operator{'s' * (count > 1)} not in int8 as decided"
        return Verdict(about, "warn", "Close to float", f"{ran}; {defects}")
    return Verdict(about, "good", "Close to float", ran)


NO_PROGRAM = "no program was made"


def _unverified(report: ReportData) -> str:
    return report.unverified.removeprefix("not verified: ")


def _small(report: ReportData) -> Verdict:
    sizes = report.sizes
    parameters = f"float parameters {size(sizes.float_parameters)}"
    if sizes.program is None:
        return Verdict("Size", "open", "Not known", f"{NO_PROGRAM}; {parameters}")
    compared = sized(sizes.program, sizes.float_parameters)
    kind: Kind = "warn" if is_larger(sizes) else "good"
    return Verdict("Size", kind, _capital(compared), f"{size(sizes.program)}, {parameters}")


def _fast(report: ReportData) -> Verdict:
    found = report.timing
    if found is None:
        way = "timing=True, or --timing, measures it" if report.runs_here else "it is not run here"
        return Verdict("Speed", "open", "Not timed", way)
    compared = speed(found.milliseconds, found.float_milliseconds)
    kind: Kind = "bad" if found.is_slower else "warn" if compared == "as fast" else "good"
    note = f"{found.milliseconds:.3g} ms, float takes {found.float_milliseconds:.3g} ms"
    words = than(compared, "float") if compared == "as fast" else compared
    return Verdict("Speed", kind, _capital(words), note)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
