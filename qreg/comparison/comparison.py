"""A comparison, and its output formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from qreg.comparison.page import render
from qreg.comparison.text import text
from qreg.comparison.values import ComparisonData
from qreg.report.values import plain
from qreg.utils.files import write_atomically


@frozen
class Comparison(ComparisonData):
    """A comparison that can be output as text, JSON or an HTML page."""

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values; numbers that JSON lacks (infinity) are None."""
        plainly = attrs.asdict(self, value_serializer=plain)
        for entry, listed in zip(self.entries, plainly["entries"], strict=True):
            listed["loads"] = entry.runs
        return plainly

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_html(self, path: str | Path) -> None:
        """Write a self-contained page with bars and tables, in full or not at all."""
        write_atomically(Path(path), render(self).encode())

    def __str__(self) -> str:
        return text(self)
