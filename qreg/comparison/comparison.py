"""A comparison, and how it is written."""

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
    """A comparison, as it is written: as text, JSON or a page."""

    def as_dict(self) -> dict[str, Any]:
        """In plain values; numbers that JSON does not know (infinity) are None."""
        plainly = attrs.asdict(self, value_serializer=plain)
        for entry, listed in zip(self.entries, plainly["entries"], strict=True):
            listed["loads"] = entry.runs
        return plainly

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_html(self, path: str | Path) -> None:
        """Write a page with bars and tables that needs no network, in full or not at all."""
        write_atomically(Path(path), render(self).encode())

    def __str__(self) -> str:
        return text(self)
