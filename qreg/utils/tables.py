"""Tables of text: as wide as the terminal, and ``WIDE`` columns in a file or a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

PROSE = frozenset({"summary", "pattern", "why", "broken", "what", "module", "left out", "adds"})
WIDE = 160  # columns of output that is not a terminal, where lines need no folding


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as a table; print nothing if there are no rows."""
    if rows:
        console().print(table(rows))


def table(rows: Sequence[Row]) -> Table:
    """Return a table of rows, with their keys as columns; columns without values are skipped."""
    found = Table(box=None, header_style="bold")
    columns = [key for key in rows[0] if any(row[key] not in ("", None, [], {}) for row in rows)]
    for column in columns:
        numbers = all(isinstance(row[column], (int, float)) for row in rows)
        justify: Literal["right", "left"] = "right" if numbers else "left"
        found.add_column(column, justify=justify, overflow="fold", no_wrap=column not in PROSE)
    for row in rows:
        found.add_row(*(Text(_cell(row[column])) for column in columns))
    return found


def console() -> Console:
    """Return the console of standard output."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        value = [f"{name}={each}" for name, each in value.items()]
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)
