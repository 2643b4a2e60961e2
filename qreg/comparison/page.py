"""A comparison as a page: the plot, and the table below it, in one file without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qreg.comparison.text import headline, remarks, rows

if TYPE_CHECKING:
    from qreg.comparison.values import Comparison, Entry

# Each panel: its title, and what of an entry it shows.
PANELS = (
    ("latency, ms (less is better)", "milliseconds"),
    ("SQNR to float, dB (more is better)", "sqnr_to_float"),
    ("program, KiB (less is better)", "kibibytes"),
    ("multiply-accumulates in int8, %", "percent"),
)
# Okabe and Ito's colours, which people tell apart whatever colours they see.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#999999")
HEIGHT = 640  # pixels


def render(found: Comparison) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("qreg.comparison", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    listed = rows(found)
    return environment.get_template("page.html").render(
        title=headline(found),
        columns=list(listed[0]),
        rows=listed,
        remarks=list(remarks(found)),
        plot=Markup(_plot(found)),  # plotly's own markup, which escapes what is in it
    )


def _plot(found: Comparison) -> str:
    from plotly.graph_objects import Bar
    from plotly.subplots import make_subplots

    working = [each for each in found.entries if each.works]
    figure = make_subplots(rows=2, cols=2, subplot_titles=[title for title, _ in PANELS])
    for number, (_, what) in enumerate(PANELS):
        bar = Bar(**_bars(working, what))
        figure.add_trace(bar, row=number // 2 + 1, col=number % 2 + 1)
    figure.update_layout(showlegend=False, height=HEIGHT, template="plotly_white")
    text: str = figure.to_html(full_html=False, include_plotlyjs=True)
    return text


def _bars(entries: list[Entry], what: str) -> dict[str, Any]:
    values = [_value(each, what) for each in entries]
    return {
        "x": [each.backend for each in entries],
        "y": values,
        "text": ["" if value is None else f"{value:.3g}" for value in values],
        "marker_color": [COLOURS[number % len(COLOURS)] for number in range(len(entries))],
        "cliponaxis": False,
    }


def _value(entry: Entry, what: str) -> float | None:
    if what == "kibibytes":
        return None if entry.bytes is None else entry.bytes / 1024
    if what == "percent":
        return None if entry.int8_share is None else 100 * entry.int8_share
    value: float | None = getattr(entry, what)
    return value
