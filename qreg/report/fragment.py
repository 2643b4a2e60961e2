"""What notebooks show of a value: a piece of HTML with its style in it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.report.next_steps import next_steps, preamble
from qreg.report.page.templates import environment
from qreg.report.page.verdicts import Verdict, verdicts
from qreg.report.text import headlines

if TYPE_CHECKING:
    from qreg.report.next_steps import NextStep
    from qreg.report.values import ReportData
    from qreg.utils.tables import Row

MOST = 12  # rows of a table


def report_fragment(report: ReportData) -> str:
    """Return the verdicts, the next steps and the first lines of a report."""
    return fragment(
        f"{report.model} for {report.backend}",
        verdicts(report),
        lines=list(headlines(report))[1:],
        steps=next_steps(report),
        quantizer=preamble(report),
    )


def fragment(
    title: str,
    found: Sequence[Verdict],
    *,
    lines: Sequence[str] = (),
    rows: Sequence[Row] = (),
    steps: Sequence[NextStep] = (),
    quantizer: str = "",
    opened: bool = False,
) -> str:
    """Return a title with verdicts, a table, next steps and sentences, as HTML.

    Every text is escaped. Colours are those of the page around it.

    Args:
        title: the first line.
        found: the verdicts.
        lines: sentences, which a click shows.
        rows: the rows of the table, of which the first ``MOST`` are shown.
        steps: the next steps.
        quantizer: the line that makes the quantizer that the steps change; empty for none.
        opened: show the sentences without a click.

    Returns:
        A ``div`` with its style in it.
    """
    columns: list[Any] = (
        [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    )
    return (
        environment()
        .get_template("fragment.html")
        .render(
            title=title,
            verdicts=found,
            lines=lines,
            columns=columns,
            rows=rows[:MOST],
            left=max(0, len(rows) - MOST),
            steps=steps,
            quantizer=quantizer,
            opened=opened,
        )
    )
