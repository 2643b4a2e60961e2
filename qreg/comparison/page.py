"""Render a comparison as a page: bars, the table and the remarks.

The page is one file that needs no network and no scripts. Its style is that of a report's page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.comparison.bars import panels
from qreg.comparison.text import headline, remarks, rows
from qreg.report.page.templates import asset, environment

if TYPE_CHECKING:
    from qreg.comparison.values import ComparisonData

WORDS = frozenset({"backend", "config", "loads", "verdict"})  # columns that are not numbers


def render(found: ComparisonData) -> str:
    """Return the whole page."""
    return (
        environment("qreg.comparison")
        .get_template("page.html")
        .render(
            model=found.model,
            headline=headline(found),
            panels=panels(found),
            rows=rows(found),
            words=WORDS,
            remarks=list(remarks(found)),
            style=asset("page.css"),
        )
    )
