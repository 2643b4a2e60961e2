"""The tables of operators: one row for each, with those of repeated blocks together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING

from qreg.report.blocks import Stack, folded, stacks, starred
from qreg.utils.wording import percent

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData
    from qreg.utils.tables import Row


def place_of(operator: Operator) -> str:
    """Return where an operator runs; if no program is known, as decided."""
    return operator.place or ("int8" if operator.quantized else "float")


def what(operator: Operator) -> str:
    """Return where an operator runs, in one word: its precision if it is quantized."""
    place = place_of(operator)
    return operator.precision or place if place == "int8" else place


def reason_rows(operators: Iterable[Operator]) -> list[Row]:
    """Return the operators, counted by type, place, annotator and reason."""
    counted = Counter((o.operator, what(o), o.annotator or "", o.reason) for o in operators)
    return [
        {"count": count, "operator": operator, "ends": end, "annotator": annotator, "why": why}
        for (operator, end, annotator, why), count in counted.most_common()
    ]


def decibels(sqnr: float) -> str:
    """Return an SQNR in dB; ``"equal"`` without noise."""
    return "equal" if sqnr == math.inf else f"{sqnr:.1f} dB"


def short(source: str | None) -> str:
    """Return the file's name and the line, without the folders and the code."""
    place = (source or "").split(": ")[0]
    return PurePath(place).name


def work(group: Iterable[Operator], report: ReportData) -> str:
    """Return the share of operators in the counted multiply-accumulates."""
    every = list(group)
    macs = sum(each.macs for each in every)
    counted = percent(macs / report.macs) if macs else ""
    if not any(each.uncounted for each in every):
        return counted
    return f"{counted} and more" if counted else "not counted"


def operator_rows(report: ReportData) -> list[Row]:
    """Return a row for each group of operators, with the spread of their values."""
    return [operator_row(group, report) for group in operator_groups(report)]


def operator_groups(report: ReportData) -> list[tuple[Operator, ...]]:
    """Return the operators, the noisiest first, or in the order of the graph.

    Operators at the same place of repeated blocks are one group.
    """
    groups = folded(report.operators)
    if report.worst:
        groups.sort(key=_noise)
    return groups


def block_rows(report: ReportData) -> list[Row]:
    """Return a row for each repeated block: where it runs, its noise, and its time."""
    return [
        {
            "block": name,
            "ends": _counted(map(what, block)),
            "SQNR of its output": _spread([last], "sqnr", decibels),
            "lowest SQNR": decibels(min(_known(block, "sqnr"))) if _known(block, "sqnr") else "",
            "us": _total(block, "microseconds"),
            "float us": _total(block, "float_microseconds"),
        }
        for stack in stacks(report.operators)
        for (name, last), block in zip(stack.outputs, stack.blocks, strict=True)
    ]


def part_rows(report: ReportData) -> list[Row]:
    """Return the size of the constants by part of a model with repeated blocks.

    The parts are the stacks, and the modules outside of them that have constants.
    """
    paths = {each.name: stack for stack in stacks(report.operators) for each in _inside(stack)}
    parts: dict[str, list[Operator]] = defaultdict(list)
    for each in report.operators if paths else ():
        stack = paths.get(each.name)
        count = f"{stack.path or report.model} ({len(stack.blocks)} blocks)" if stack else ""
        parts[count or each.module or each.name].append(each)
    program = sum(each.constant_bytes or 0 for each in report.operators)
    return [
        {
            "part": part,
            "operators": len(group),
            "float bytes": f"{sum(each.float_bytes for each in group):,.0f}",
            "bytes": f"{sum(_known(group, 'constant_bytes')):,.0f}",
            "of the program": percent(sum(_known(group, "constant_bytes")) / program),
        }
        for part, group in parts.items()
        if program and any(each.float_bytes for each in group)
    ]


def _inside(stack: Stack) -> Iterable[Operator]:
    return chain.from_iterable(stack.blocks)


def operator_row(group: Sequence[Operator], report: ReportData) -> Row:
    """Return the row of a group of operators."""
    first, count = group[0], len(group)
    lines = dict.fromkeys(short(each.source) for each in group)
    return {
        "operator": first.name if count == 1 else f"{first.name} and {count - 1} like it",
        "module": first.module if count == 1 else starred(first.module),
        "ends": what(first) if count == 1 else _counted(map(what, group)),
        "as": ", ".join(dict.fromkeys(each.lowered_as for each in group if each.lowered_as)),
        "macs": work(group, report),
        "us": _spread(group, "microseconds", "{:.0f}".format),
        "float us": _spread(group, "float_microseconds", "{:.0f}".format),
        "SQNR": _spread(group, "sqnr", decibels),
        "why": "; ".join(dict.fromkeys(each.reason for each in group if each.reason)),
        "line": ", ".join(lines),
    }


def _known(group: Iterable[Operator], name: str) -> list[float]:
    values = (getattr(each, name) for each in group)
    return [each for each in values if each is not None]


def _noise(group: Iterable[Operator]) -> tuple[bool, float]:
    """Return a key to sort by: the lowest SQNR first, then groups without one."""
    values = _known(group, "sqnr")
    return not values, min(values, default=0.0)


def _spread(group: Iterable[Operator], name: str, form: Callable[[float], str]) -> str:
    """Return the lowest and the highest value of a group."""
    values = _known(group, name)
    return " to ".join(dict.fromkeys(map(form, (min(values), max(values))))) if values else ""


def _total(group: Iterable[Operator], name: str) -> str:
    values = _known(group, name)
    return f"{sum(values):.0f}" if values else ""


def _counted(ends: Iterable[str]) -> str:
    """Return where operators run: the place if it is one, and their numbers if they differ."""
    found = Counter(ends)
    return ", ".join(f"{count} {end}" if len(found) > 1 else end for end, count in found.items())
