"""What a program was made with, in the footer of a page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qreg.report.values import Provenance


def made_with(found: Provenance | None) -> list[tuple[str, str]]:
    """Return labels and texts, with whole hashes; none for a report without provenance."""
    return list(_rows(found)) if found else []


def _rows(found: Provenance) -> Iterator[tuple[str, str]]:
    yield "versions", ", ".join(" ".join(pair) for pair in found.versions.items())
    yield "processor", found.processor
    if found.options:
        yield "options", ", ".join(f"{name}={value}" for name, value in found.options.items())
    if found.data_sha256:
        batches = "batch" if found.batches == 1 else "batches"
        yield "calibration", f"{found.batches} {batches}, SHA-256 {found.data_sha256}"
    if found.recipe_sha256:
        yield "recipe", f"SHA-256 {found.recipe_sha256}"
