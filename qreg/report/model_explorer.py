"""The report as node data for Google's Model Explorer, which ExecuTorch's visualizer opens.

A file of node data is one set of values for the nodes of one graph, by node id. Model Explorer's
reader of ExportedPrograms uses the names of fx nodes as ids, which are the names of operators in a
report. It ignores unknown ids. The set has no graph id, so Model Explorer applies it to the graph
that is shown. The fields are those of ``model_explorer.node_data_builder.GraphNodeData`` in
ai-edge-model-explorer 0.1.34.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from qreg.errors import InputError
from qreg.report.rows import place_of, what

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData


COLOURS = {"int8": "#2765b0", "float": "#fbe7b5", "outside": "#e78ab8", "gone": "#d5d7da"}
DEFECT = "#b3261e"
By = Literal["place", "sqnr", "sensitivity"]
NOISY, CLEAN = "#b3261e", "#f3f6fa"


def node_data(report: ReportData, by: By = "place") -> dict[str, Any]:
    """Return the node data of a graph: where each operator runs, or a noise in dB.

    The noise is that of the operator's output (``"sqnr"``), or that of the model's outputs if the
    operator's pattern alone is quantized (``"sensitivity"``). Model Explorer reads one set from a
    file: for several, write several files. Operators without noise, or whose noise was not
    measured, have no value.
    """
    if by == "place":
        return _places(report)
    if by == "sqnr":
        return _noise(report, "SQNR in dB", {each.name: each.sqnr for each in report.operators})
    isolated = {each.name: each.isolated_sqnr for each in report.operators}
    return _noise(report, "SQNR of the outputs in dB, each pattern quantized alone", isolated)


def _places(report: ReportData) -> dict[str, Any]:
    return {
        "name": f"qreg: where operators run, {report.backend}",
        "results": {each.name: _place(each, report) for each in report.operators},
        "hideInAggregatedStatsTable": True,  # of numbers
        "showExpandedSummaryOnGroupNode": True,
        "showLabelCountColumnsInChildrenStatsTable": True,
    }


def _place(operator: Operator, report: ReportData) -> dict[str, str]:
    if operator.name in report.defects:
        return {"value": f"defect: {what(operator)}", "bgColor": DEFECT}
    return {"value": what(operator), "bgColor": COLOURS[place_of(operator)]}


def _noise(report: ReportData, name: str, found: Mapping[str, float | None]) -> dict[str, Any]:
    measured = {key: value for key, value in found.items() if value is not None}
    if not measured:
        raise InputError(
            "no noise was measured: explain with numerics=True or --numerics for the SQNR of "
            "operators, with sensitivity=True or --sensitivity for that of the outputs"
        )
    return {
        "name": f"qreg: {name}, {report.backend}",
        "results": {
            key: {"value": round(value, 2)}
            for key, value in measured.items()
            if math.isfinite(value)
        },
        "gradient": [{"stop": 0, "bgColor": NOISY}, {"stop": 1, "bgColor": CLEAN}],
        "hideAggregatedStats": ["sum"],
    }
