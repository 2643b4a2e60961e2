"""The outcome of a search, with its program, and its output formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from qreg.pipeline.result import Result
from qreg.recipes.recipe import Recipe
from qreg.report.fragment import fragment
from qreg.report.values import plain
from qreg.tuning.page import relative, render, verdict
from qreg.tuning.store import Store
from qreg.tuning.text import headlines, reasons, remarks, rows, text
from qreg.tuning.values import Trial, TunedData
from qreg.utils.files import write_atomically

SCHEMA = 1  # incremented when a field changes its meaning or is removed


@frozen
class Tuned(TunedData):
    """The outcome of a search.

    ``result`` is the best program, like that of :func:`qreg.quantize`; None if no program was
    evaluated. ``store`` is the work folder, which has the trials with their programs.
    """

    result: Result | None = field(default=None, repr=False)
    store: Store | None = field(default=None, repr=False)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the best program, which makes it again without data; None without one."""
        return None if self.result is None else self.result.recipe

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as plain values; numbers that JSON lacks (infinity) are None."""
        listed = attrs.filters.exclude("result", "store")
        return {
            "schema": SCHEMA,
            "met": self.met,
            "evaluations": self.evaluations,
            "noise": self.noise,
            **attrs.asdict(self, filter=listed, value_serializer=plain),
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_html(self, path: str | Path) -> None:
        """Write a page with the trials and their Pareto plot, in full or not at all.

        The reports of the trials are linked if the search had a work folder.
        """
        page = Path(path)

        def link(trial: Trial) -> str | None:
            found = self.store.report(trial.variant) if self.store else None
            return None if found is None else relative(found, page)

        write_atomically(page, render(self, link).encode())

    def _repr_html_(self) -> str:
        lines = [*list(headlines(self))[1:], *reasons(self), *remarks(self)]
        return fragment(f"{self.model}: tuned", [verdict(self)], lines=lines, rows=rows(self))

    def __str__(self) -> str:
        return text(self)
