"""The report: what happened to each operator and why, with methods to write it in many forms.

A report contains plain values only, so it can be written as JSON and read without torch.
``docs/report.md`` describes it for readers, ``docs/report.schema.json`` for programs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from qreg.report.next_steps import NextStep, next_steps
from qreg.report.values import SCHEMA, ReportData, plain
from qreg.utils.files import write_atomically

if TYPE_CHECKING:
    from qreg.report.model_explorer import By


@frozen
class Report(ReportData):
    """A report that can be written as text, JSON, a page, or an overlay of a graph."""

    @property
    def next_steps(self) -> tuple[NextStep, ...]:
        """Lines of code that make the program better, ranked by what they bring."""
        return next_steps(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values; numbers that JSON lacks (NaN, infinity) are None."""
        return {
            "schema": SCHEMA,
            "configs": self.configs,
            "counts": dict(self.counts),
            "precisions": self.precisions,
            "int8_share_of_macs": self.int8_share,
            "uncounted": [each.name for each in self.uncounted],
            "next_steps": [attrs.asdict(each, value_serializer=plain) for each in self.next_steps],
            "sensitivity": [
                attrs.asdict(each, value_serializer=plain) for each in self.sensitivity
            ],
            **attrs.asdict(self, value_serializer=plain),
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_json(self, path: str | Path) -> None:
        """Write the report as JSON, atomically."""
        write_atomically(Path(path), self.to_json().encode())

    def save_html(self, path: str | Path) -> None:
        """Write the report as an HTML page that needs no network, atomically."""
        from qreg.report.page import render

        write_atomically(Path(path), render(self).encode())

    def save_overlay(self, path: str | Path, by: By = "place") -> None:
        """Write node data for Google's Model Explorer, atomically.

        ``by`` selects the colours of the nodes: by where they run, by the noise of their outputs,
        or by the noise of the model's outputs if they alone are quantized. Noise must have been
        measured.
        """
        from qreg.report.model_explorer import node_data

        write_atomically(Path(path), json.dumps(node_data(self, by), indent=2).encode())

    def _repr_html_(self) -> str:
        from qreg.report.fragment import report_fragment

        return report_fragment(self)

    def __str__(self) -> str:
        from qreg.report.text import text

        return text(self)
