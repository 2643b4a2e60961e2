"""The report as node data for Google's Model Explorer, which ExecuTorch's visualizer opens.

A file of node data is one set of values for the nodes of one graph, by node id. Model Explorer's
reader of ExportedPrograms uses the names of fx nodes as ids, which are the names of operators in a
report. It ignores unknown ids. The set has no graph id, so Model Explorer applies it to the graph
that is shown. The fields are those of ``model_explorer.node_data_builder.GraphNodeData`` in
ai-edge-model-explorer 0.1.34.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from qreg.errors import InputError
from qreg.report.text import what

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData


COLOURS = {"int8": "#2765b0", "float": "#fbe7b5", "outside": "#e78ab8", "gone": "#d5d7da"}
DEFECT = "#b3261e"
NOISY, CLEAN = "#b3261e", "#f3f6fa"


def node_data(report: ReportData, by: Literal["place", "sqnr"] = "place") -> dict[str, Any]:
    """Return the node data of a graph: where each operator runs, or the noise of its output in dB.

    Model Explorer reads one set from a file: for both, write two files. Operators without noise, or
    whose noise was not measured, have no value.
    """
    if by == "sqnr" and not report.worst:
        raise InputError("no noise was measured: explain with numerics=True, or --numerics")
    return _noise(report) if by == "sqnr" else _places(report)


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
    return {"value": what(operator), "bgColor": COLOURS[what(operator)]}


def _noise(report: ReportData) -> dict[str, Any]:
    return {
        "name": f"qreg: SQNR in dB, {report.backend}",
        "results": dict(_measured(report)),
        "gradient": [{"stop": 0, "bgColor": NOISY}, {"stop": 1, "bgColor": CLEAN}],
        "hideAggregatedStats": ["sum"],
    }


def _measured(report: ReportData) -> Iterator[tuple[str, dict[str, float]]]:
    for each in report.operators:
        if each.sqnr is not None and math.isfinite(each.sqnr):
            yield each.name, {"value": round(each.sqnr, 2)}
