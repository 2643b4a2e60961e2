"""Render the outcome of a search as a page: the Pareto plot, the trials, and the reasons.

The page is one file that needs no network and no scripts. Its style is that of a report's page.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from qreg.report.page.templates import asset, environment
from qreg.tuning import text
from qreg.tuning.plot import HEIGHT, WIDTH, plot

if TYPE_CHECKING:
    from collections.abc import Callable

    from qreg.tuning.values import Trial, TunedData

WORDS = frozenset({"trial", "backend", "config", "algorithms", "moved", "verdict"})


def render(found: TunedData, report_of: Callable[[Trial], str | None]) -> str:
    """Return the whole page; ``report_of`` returns the link to the report of a trial."""
    return (
        environment("qreg.tuning")
        .get_template("page.html")
        .render(
            found=found,
            verdict=text.verdict(found),
            headlines=list(text.headlines(found))[1:],
            plot=plot(found),
            width=WIDTH,
            height=HEIGHT,
            rows=text.rows(found),
            links=[report_of(each) for each in found.trials],
            words=WORDS,
            reasons=list(text.reasons(found)),
            remarks=list(text.remarks(found)),
            style=asset("page.css"),
        )
    )


def relative(path: Path, page: Path) -> str:
    """Return the link from a page to a file."""
    return quote(Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix())
