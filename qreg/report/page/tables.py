"""The tables of a report's page: those of the terminal, with rows that lead to nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qreg.report.blocks import stacks
from qreg.report.page.numbers import decibels
from qreg.report.page.table import Line, Table
from qreg.report.rows import (
    block_rows,
    operator_groups,
    operator_row,
    part_rows,
    reason_rows,
)
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

OPERATORS = "Operators"


def tables(report: ReportData) -> list[Table]:
    """Return the tables that have rows."""
    return [Table(title, lines) for title, lines in _titled(report) if lines]


def _titled(report: ReportData) -> Iterator[tuple[str, Sequence[Line]]]:
    names = {each.name for each in report.operators}
    yield "Outputs of the program", _plain(output_rows(report.verification))
    yield "Operators at which the SQNR drops", _drops(report)
    yield (
        "Algorithms, judged on batches that were held back",
        _plain(algorithm_rows(report.algorithms)),
    )
    if stacks(report.operators):
        yield "Repeated blocks", _plain(block_rows(report))
    yield OPERATORS, _operators(report)
    if stacks(report.operators):
        yield "Size of weights and other constants by part", _plain(part_rows(report))
    yield "Operators by place and reason", _plain(reason_rows(report.operators))
    yield (
        "Float operators that split int8 ones",
        [
            Line(row, each.operators[0])
            for row, each in zip(split_rows(report.splits), report.splits, strict=True)
        ],
    )
    yield "Conversions that belong to no border", _plain(conversion_rows(report.leftover))
    yield (
        "Ranges that use few quantized values",
        [
            Line(row, row["tensor"] if row["tensor"] in names else None)
            for row in range_rows(report.ranges)
        ],
    )
    stages = report.seconds.items()
    yield (
        "Where the time went",
        _plain([{"stage": name, "took": f"{took:.2f} s"} for name, took in stages]),
    )


def _plain(rows: Sequence[Row]) -> list[Line]:
    return [Line(row) for row in rows]


def _operators(report: ReportData) -> list[Line]:
    """Return a row for each operator; those at the same place of repeated blocks are together."""
    groups = operator_groups(report)
    return [Line(operator_row(group, report), group[0].name) for group in groups]


def _drops(report: ReportData) -> list[Line]:
    found = report.verification.drops if report.verification else ()
    return [
        Line(
            {
                "operator": each.node,
                "module": each.module,
                "drop": f"{min(each.before, 100.0) - each.after:.1f} dB",
                "before": decibels(each.before),
                "after": decibels(each.after),
                "to keep it in float": f"quantizer.{each.keep}",
            },
            each.node,
        )
        for each in found
    ]
