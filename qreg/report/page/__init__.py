"""The report as a page for people: one file that opens without a network.

What is on it is made here, in Python: ``picture`` for the graph (placed by ``layout``), ``details``
for its nodes, ``modules`` for the tree, ``cards``, ``depth`` and ``worst`` for the charts, and
``tables``. ``page.html`` puts it together; ``page.css`` and the files in ``script`` are written
into it, as is the library that draws the graph, from ``vendor``.

The strings in a report come from a model, so they are never part of the page's code: the template
escapes what it shows, and the script reads the rest as JSON and writes it as text. Nothing but the
scripts that are named by their checksum is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.report.cautions import cautions
from qreg.report.page.cards import cards
from qreg.report.page.depth import depth
from qreg.report.page.modules import module_tree
from qreg.report.page.picture import picture
from qreg.report.page.states import STATES, counted
from qreg.report.page.tables import tables
from qreg.report.page.templates import asset, checksum, environment
from qreg.report.page.worst import worst
from qreg.report.text import POOR, headlines

if TYPE_CHECKING:
    from qreg.report.values import ReportData

SCRIPTS = ("dom", "graph", "overview", "details", "filters", "modules", "search", "page")

ELSEWHERE = ("DEFECTS", POOR)  # headlines that have a place of their own


def render(report: ReportData) -> str:
    """Return the whole page."""
    library = asset("vendor/cytoscape.min.js")
    script = "\n".join(["(() => {", '"use strict";', *map(_script, SCRIPTS), "})();"])
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            headlines=_headlines(report),
            cautions=cautions(report),
            poor=[line for line in headlines(report) if line.startswith(POOR)],
            cards=cards(report),
            states=[state for state in STATES if counted(report)[state.key]],
            counted=counted(report),
            tree=module_tree(report),
            worst=worst(report),
            depth=depth(report),
            tables=tables(report),
            picture=picture(report),
            style=asset("page.css"),
            scripts=[library, script],
            hashes=[checksum(library), checksum(script)],
        )
    )


def _headlines(report: ReportData) -> list[str]:
    apart = cautions(report)
    return [
        line for line in headlines(report) if line not in apart and not line.startswith(ELSEWHERE)
    ]


def _script(name: str) -> str:
    return asset(f"script/{name}.js")
