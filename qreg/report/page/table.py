"""A table of a page, which is sorted by a click and saved as CSV."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from qreg.utils.tables import Row

NUMBER = re.compile(r"[<>]?-?(\d[\d,.]*(e[+-]?\d+)?|inf|nan)( dB| %| s)?|equal")
FILE = re.compile(r"[^a-z0-9]+")


@frozen
class Line:
    """A row: the ``node`` of the graph that its first cell leads to, or a ``link`` to another page.

    ``remarks`` are sentences below the row, those of what ``failed`` in another colour.
    """

    row: Row
    node: str | None = None
    link: str | None = None
    remarks: tuple[str, ...] = ()
    failed: bool = False


@frozen
class Table:
    """A table with a title; ``stack`` shows each row as a list on a phone."""

    title: str
    lines: Sequence[Line]
    stack: bool = False
    words: frozenset[str] = field(default=frozenset())  # columns that are not numbers

    @property
    def columns(self) -> list[str]:
        """The columns with a value in any row."""
        rows = [each.row for each in self.lines]
        return [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]

    @property
    def numbers(self) -> frozenset[str]:
        """The columns that are aligned on the right."""
        rows = [each.row for each in self.lines]
        return frozenset(
            name
            for name in self.columns
            if name not in self.words and all(_is_number(row[name]) for row in rows)
        )

    @property
    def file(self) -> str:
        """The name of its file as CSV."""
        return f"{FILE.sub('-', self.title.lower()).strip('-')}.csv"


def _is_number(value: Any) -> bool:
    if value in ("", None) or isinstance(value, (int, float)):
        return True
    return bool(NUMBER.fullmatch(str(value)))
