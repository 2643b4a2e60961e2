"""The report as a page for people: one file that opens without a network.

What is on it is made here, in Python: ``verdicts`` for the banner, ``picture`` for the graph
(placed by ``layout``), ``details`` for its nodes, ``modules`` for the tree, ``cards``, ``depth``
and ``worst`` for the charts, ``tables``, and ``made_with`` for the footer. ``page.html`` puts it
together from ``base.html`` and ``parts.html``, which the pages of comparisons and searches share.
The styles and the files in ``script`` are written into it, as is the library that draws the graph,
from ``vendor``.

The strings in a report come from a model, so they are never part of the page's code: the template
escapes what it shows, and the script reads the rest as JSON and writes it as text. Nothing but the
scripts that are named by their checksum is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.report.cautions import cautions
from qreg.report.next_steps import next_steps, preamble
from qreg.report.page.cards import cards
from qreg.report.page.depth import NARROW, depth
from qreg.report.page.made_with import made_with
from qreg.report.page.modules import module_tree
from qreg.report.page.picture import picture
from qreg.report.page.states import STATES, counted
from qreg.report.page.tables import tables
from qreg.report.page.templates import asset, checksum, environment, script, style
from qreg.report.page.verdicts import verdicts
from qreg.report.page.worst import worst
from qreg.report.text import POOR, asides, headlines

if TYPE_CHECKING:
    from qreg.report.values import ReportData

SCRIPTS = ("graph", "overview", "details", "filters", "modules", "search", "page")


def render(report: ReportData) -> str:
    """Return the whole page."""
    scripts = [asset("vendor/cytoscape.min.js"), script(*SCRIPTS)]
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            headlines=list(asides(report)),
            cautions=cautions(report),
            poor=[line for line in headlines(report) if line.startswith(POOR)],
            verdicts=verdicts(report),
            first=preamble(report),
            steps=next_steps(report),
            cards=cards(report),
            states=[state for state in STATES if counted(report)[state.key]],
            counted=counted(report),
            tree=module_tree(report),
            worst=worst(report),
            depths=[("broad", depth(report)), ("narrow", depth(report, NARROW))],
            tables=tables(report),
            made_with=made_with(report.provenance),
            picture=picture(report),
            style=style("report.css"),
            scripts=scripts,
            hashes=[checksum(each) for each in scripts],
        )
    )
