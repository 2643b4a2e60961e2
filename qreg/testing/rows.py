"""Consistency checks of the rows of a report."""

from __future__ import annotations

from collections.abc import Iterator

from qreg.report.report import Report
from qreg.report.values import Operator

INT8 = ("int8", "uint8", "i8", "u8")  # how backends spell the types of quantized values
RESCALED = "int32"  # the type in which TOSA computes sums and products of quantized values


def contradictions(report: Report) -> list[str]:
    """Return a sentence for each row whose decision, reason, place and types contradict.

    An operator that runs in int8 though decided for float, or the other way round, is not a
    contradiction if the reason says so.
    """
    return [f"{each.name}: {problem}" for each in report.operators for problem in _problems(each)]


def _problems(row: Operator) -> Iterator[str]:
    decided = "int8" if row.quantized else "float"
    ran = "float" if row.place == "outside" else row.place
    types = (row.types or "").lower()
    if ran in ("int8", "float") and ran != decided and not row.reason.startswith(f"runs in {ran}"):
        yield f"decided for {decided}, runs in {ran}, because {row.reason!r}"
    if row.place == "gone" and (row.lowered_as or row.types):
        yield f"gone, and is {row.lowered_as} on {row.types}"
    if row.place == "int8" and types and not any(each in types for each in (*INT8, RESCALED)):
        yield f"runs in int8 on {row.types}"
    if row.place == "float" and types and any(each in types.split()[0] for each in INT8):
        yield f"runs in float on {row.types}"
    if row.place == "outside" and row.delegate is not None:
        yield f"outside, and in delegate {row.delegate}"
