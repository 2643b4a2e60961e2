"""A comparison, and its output formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from qreg.comparison.page import render
from qreg.comparison.text import headline, remarks, rows, text
from qreg.comparison.values import ComparisonData
from qreg.comparison.winner import sentence, winner
from qreg.report.fragment import fragment
from qreg.report.page.verdicts import Verdict
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

    def _repr_html_(self) -> str:
        best = winner(self)
        words = f"{best.backend} wins" if best else "No winner"
        verdict = Verdict("Winner", "good" if best else "bad", words, sentence(self))
        lines = [headline(self), *remarks(self)]
        return fragment(f"{self.model}: backends compared", [verdict], lines=lines, rows=rows(self))

    def __str__(self) -> str:
        return text(self)
