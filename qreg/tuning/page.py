"""Render the outcome of a search as a page: the Pareto plot, the trials, and the reasons.

The page is one file that needs no network. It is made of the parts of a report's page.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from qreg.report.page.scatter import NARROW
from qreg.report.page.table import Line, Table
from qreg.report.page.templates import checksum, environment, script, style
from qreg.report.page.verdicts import Verdict
from qreg.tuning import text
from qreg.tuning.plot import plot

if TYPE_CHECKING:
    from collections.abc import Callable

    from qreg.tuning.values import Trial, TunedData

WORDS = frozenset({"backend", "config", "algorithms", "moved", "verdict"})


def render(found: TunedData, report_of: Callable[[Trial], str | None]) -> str:
    """Return the whole page; ``report_of`` returns the link to the report of a trial."""
    shared = script()
    return (
        environment("qreg.tuning")
        .get_template("tuned.html")
        .render(
            found=found,
            verdicts=[verdict(found)],
            headlines=list(text.headlines(found))[1:],
            plots=[("broad", plot(found)), ("narrow", plot(found, NARROW))],
            table=_table(found, report_of),
            reasons=list(text.reasons(found)),
            remarks=list(text.general(found)),
            style=style(),
            scripts=[shared],
            hashes=[checksum(shared)],
        )
    )


def verdict(found: TunedData) -> Verdict:
    """Return whether the limit is met, and by what."""
    words = "Limit met" if found.met else "Limit not met"
    return Verdict("Search", "good" if found.met else "bad", words, text.verdict(found))


def _table(found: TunedData, report_of: Callable[[Trial], str | None]) -> Table | None:
    lines = [
        Line(
            row,
            link=report_of(each),
            remarks=(each.failure,) if each.failure is not None else (),
            failed=each.metric is None,
        )
        for each, row in zip(found.trials, text.rows(found), strict=True)
    ]
    return Table("Trials", lines, stack=True, words=WORDS) if lines else None


def relative(path: Path, page: Path) -> str:
    """Return the link from a page to a file."""
    return quote(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix())
