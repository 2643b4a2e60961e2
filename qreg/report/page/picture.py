"""The graph as the page's script reads it: plain values, placed and described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import asdict

from qreg.report.blocks import folded
from qreg.report.page.details import DETAILS, texts
from qreg.report.page.layout import HEIGHT, WIDTH, Layout, layout
from qreg.report.page.numbers import decibels
from qreg.report.page.states import STATES, model_inputs, state_of
from qreg.report.rows import what

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData

NAME = 21  # characters of a name that fit into a node


def picture(report: ReportData) -> dict[str, Any]:
    reads: dict[str, tuple[str, ...]] = dict.fromkeys(model_inputs(report), ())
    reads |= {each.name: each.inputs for each in report.operators}
    placed = layout(reads)
    rows = {each.name: group[0].name for group in folded(report.operators) for each in group}
    operators = [
        {**_operator(each, report, placed), "row": rows[each.name]} for each in report.operators
    ]
    return {
        "size": [WIDTH, HEIGHT],
        "states": [asdict(state) for state in STATES],
        "details": [[detail.group, detail.label] for detail in DETAILS],
        "nodes": [*(_input(name, placed) for name in model_inputs(report)), *operators],
        "edges": list(_edges(report, placed)),
    }


def _input(name: str, placed: Layout) -> dict[str, Any]:
    return _node(name, "input", "input", placed)


def _operator(each: Operator, report: ReportData, placed: Layout) -> dict[str, Any]:
    state, defect = state_of(each), each.name in report.defects
    noise = [] if each.sqnr is None else [decibels(each.sqnr)]
    label = what(each) if state.key == "int8" else state.label
    below = " · ".join([f"⚠ {label}" if defect else label, *noise])
    return {
        **_node(each.name, state.key, below, placed),
        "operator": each.operator,
        "module": each.module,
        "pattern": each.pattern,
        "defect": defect,
        "texts": texts(each, report.macs),
    }


def _node(name: str, state: str, below: str, placed: Layout) -> dict[str, Any]:
    at = [round(value, 1) for value in placed.points[name]]
    return {"name": name, "state": state, "lines": [_shortened(name), below], "at": at}


def _shortened(name: str) -> str:
    """Return a name without its middle, whose ends are more specific, if it is too long."""
    half = NAME // 2
    return name if len(name) <= NAME else f"{name[:half]}…{name[-half:]}"


def _edges(report: ReportData, placed: Layout) -> Iterator[dict[str, Any]]:
    int8 = {each.name: _carries_int8(each) for each in report.operators}
    for each in report.operators:
        for source in each.inputs:
            route = placed.routes.get((source, each.name), ())
            changes = int8.get(source, int8[each.name]) != int8[each.name]
            bends = [[round(x, 1), round(y, 1)] for x, y in route]
            yield {"from": source, "to": each.name, "changes": changes, "bends": bends}


def _carries_int8(operator: Operator) -> bool:
    """Whether an operator's output is int8; for eliminated operators, by the decision."""
    return operator.quantized if operator.place == "gone" else operator.runs_in_int8
