"""The tables of the page: those of the terminal, without the table of operators."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.report.blocks import stacks
from qreg.report.rows import block_rows, operator_rows, part_rows, reason_rows
from qreg.report.text import (
    algorithm_rows,
    conversion_rows,
    output_rows,
    range_rows,
    split_rows,
)

if TYPE_CHECKING:
    from qreg.report.values import ReportData
    from qreg.utils.tables import Row

NUMBER = re.compile(r"-?(\d[\d,.]*(e[+-]?\d+)?|inf|nan)( dB| %| s)?")


@frozen
class Table:
    """A table; ``numbers`` are the columns that are aligned on the right."""

    title: str
    columns: Sequence[str]
    numbers: frozenset[str]
    rows: Sequence[Row]


def tables(report: ReportData) -> list[Table]:
    """Return the tables that have rows."""
    return [_table(title, rows) for title, rows in _titled(report) if rows]


def _titled(report: ReportData) -> Iterator[tuple[str, Sequence[Row]]]:
    yield "Outputs of the program", output_rows(report.verification)
    yield "Algorithms, judged on batches that were held back", algorithm_rows(report.algorithms)
    if stacks(report.operators):
        yield "Repeated blocks", block_rows(report)
        yield "Operators of repeated blocks together", operator_rows(report)
        yield "Size of weights and other constants by part", part_rows(report)
    yield "Operators by place and reason", reason_rows(report.operators)
    yield "Float operators that split int8 ones", split_rows(report.splits)
    yield "Conversions that belong to no border", conversion_rows(report.leftover)
    yield "Ranges that use few quantized values", range_rows(report.ranges)
    stages = report.seconds.items()
    yield "Where the time went", [{"stage": name, "took": f"{took:.2f} s"} for name, took in stages]


def _table(title: str, rows: Sequence[Row]) -> Table:
    columns = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
    numbers = [name for name in columns if all(_is_number(row[name]) for row in rows)]
    return Table(title, columns, frozenset(numbers), rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or bool(NUMBER.fullmatch(str(value)))
