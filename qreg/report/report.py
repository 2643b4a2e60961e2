"""The report: what became of every operator and why, in one value that is written in many forms.

It holds plain values only, so it can be written as JSON and read without torch. ``docs/report.md``
describes it for readers, ``docs/report.schema.json`` for programs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import frozen

from qreg.report.values import SCHEMA, ReportData, plain
from qreg.utils.files import write_atomically


@frozen
class Report(ReportData):
    """A report, as it is written: as text, JSON, a page, or an overlay of a graph."""

    def as_dict(self) -> dict[str, Any]:
        """The report in plain values; numbers that JSON does not know (infinity) are None."""
        return {
            "schema": SCHEMA,
            "configs": self.configs,
            "counts": dict(self.counts),
            "int8_share_of_macs": self.int8_share,
            "uncounted": [each.name for each in self.uncounted],
            **attrs.asdict(self, value_serializer=plain),
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_json(self, path: str | Path) -> None:
        """Writes the report as JSON, in full or not at all."""
        write_atomically(Path(path), self.to_json().encode())

    def save_html(self, path: str | Path) -> None:
        """Writes the report as a page that needs no network, in full or not at all."""
        from qreg.report.page import render

        write_atomically(Path(path), render(self).encode())

    def save_overlay(self, path: str | Path, by: Literal["place", "sqnr"] = "place") -> None:
        """Writes node data for Google's Model Explorer, in full or not at all.

        ``by`` is what colours the nodes: where they run, or their noise, which must be measured.
        """
        from qreg.report.model_explorer import node_data

        write_atomically(Path(path), json.dumps(node_data(self, by), indent=2).encode())

    def __str__(self) -> str:
        from qreg.report.text import text

        return text(self)
