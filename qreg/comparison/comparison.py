"""A comparison, and its output formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
from attrs import frozen

from qreg.comparison.page import render, verdict
from qreg.comparison.text import headline, remarks, rows, text
from qreg.comparison.values import ComparisonData, Entry
from qreg.report.fragment import fragment
from qreg.report.page import render as render_report
from qreg.report.values import plain
from qreg.utils.files import write_all_atomically


@frozen
class Comparison(ComparisonData):
    """A comparison that can be output as text, JSON or an HTML page."""

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values; numbers that JSON lacks (infinity) are None."""
        report = attrs.fields(Entry).report
        plainly = attrs.asdict(
            self, filter=lambda field, _: field != report, value_serializer=plain
        )
        for entry, listed in zip(self.entries, plainly["entries"], strict=True):
            listed["loads"] = entry.runs
        return plainly

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_html(self, path: str | Path) -> None:
        """Write a page with the winner, a plot and the table, in full or not at all.

        The report of each backend is written next to it, as ``compared.xnnpack.html`` for a page
        ``compared.html`` and the backend ``xnnpack``, and linked.
        """
        page = Path(path)
        reports = {
            each.backend: (page.with_name(_name(page, each.backend)), each.report)
            for each in self.entries
            if each.report is not None
        }
        links = {backend: quote(file.name) for backend, (file, _) in reports.items()}
        written = {file: render_report(report).encode() for file, report in reports.values()}
        write_all_atomically({**written, page: render(self, links).encode()})

    def _repr_html_(self) -> str:
        lines = [headline(self), *remarks(self)]
        title = f"{self.model}: backends compared"
        failed = not all(each.works for each in self.entries)
        return fragment(title, [verdict(self)], lines=lines, rows=rows(self), opened=failed)

    def __str__(self) -> str:
        return text(self)


def _name(page: Path, backend: str) -> str:
    """Return the name of the file with the report of a backend; it is within the folder."""
    return f"{page.stem}.{quote(backend, safe='')}{page.suffix}"
