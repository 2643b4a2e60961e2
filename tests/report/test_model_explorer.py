"""Node data for Model Explorer: what its documented format takes, and what it then shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from qreg.errors import InputError
from qreg.report.model_explorer import node_data
from qreg.report.report import Report
from qreg.report.values import Operator, Sizes

# The fields of GraphNodeData, NodeDataResult and GradientItem in ai-edge-model-explorer 0.1.34.
FIELDS = {
    "name": str,
    "results": dict,
    "thresholds": list,
    "gradient": list,
    "hideInAggregatedStatsTable": bool,
    "hideInChildrenStatsTable": bool,
    "hideAggregatedStats": list,
    "showExpandedSummaryOnGroupNode": bool,
    "showLabelCountColumnsInChildrenStatsTable": bool,
}
HEX = re.compile(r"#[0-9a-f]{6}")


@pytest.fixture
def report() -> Report:
    places = {"conv": "int8", "gate": "float", "norm": "outside", "relu": "gone", "head": "float"}
    isolated = {"conv": 41.5, "relu": 41.5, "head": float("inf")}
    noise = {"conv": 30.126, "gate": float("inf"), "norm": -1.5}
    operators = tuple(
        Operator(
            name=name,
            operator="aten.op.default",
            module="",
            status="annotated",
            reason="",
            place=place,
            sqnr=noise.get(name),
            isolated_sqnr=isolated.get(name),
        )
        for name, place in places.items()
    )
    return Report("toy", "Net", operators, Sizes(1, 1), delegates=1, defects=("head",))


@pytest.mark.parametrize("by", ["place", "sqnr", "sensitivity"])
def test_the_fields_are_those_that_model_explorer_reads(report: Report, by: str) -> None:
    data = node_data(report, by)  # type: ignore[arg-type]
    assert all(isinstance(value, FIELDS[name]) for name, value in data.items())
    assert "results" not in data["results"]  # by which it tells a graph's data from a model's
    for result in data["results"].values():
        assert result.keys() <= {"value", "bgColor", "textColor"}
        assert HEX.fullmatch(result.get("bgColor", "#000000"))
        assert isinstance(result["value"], (int, float, str))


def test_nodes_are_named_and_coloured_by_where_they_run(report: Report) -> None:
    results = node_data(report)["results"]
    assert {name: found["value"] for name, found in results.items()} == {
        "conv": "int8",
        "gate": "float",
        "norm": "outside",
        "relu": "gone",
        "head": "defect: float",
    }
    assert len({found["bgColor"] for found in results.values()}) == 5


def test_the_noise_is_a_gradient_over_what_was_measured(report: Report) -> None:
    data = node_data(report, "sqnr")
    assert data["results"] == {"conv": {"value": 30.13}, "norm": {"value": -1.5}}
    assert [item["stop"] for item in data["gradient"]] == [0, 1]
    assert all(HEX.fullmatch(item["bgColor"]) for item in data["gradient"])


def test_the_operators_of_a_pattern_have_the_noise_of_the_outputs(report: Report) -> None:
    data = node_data(report, "sensitivity")
    assert data["results"] == {"conv": {"value": 41.5}, "relu": {"value": 41.5}}
    assert "outputs" in data["name"]


@pytest.mark.parametrize("by", ["sqnr", "sensitivity"])
def test_noise_that_was_not_measured_cannot_be_shown(by: Any) -> None:
    report = Report("toy", "Net", (), Sizes(1, None))
    with pytest.raises(InputError, match="--sensitivity"):
        node_data(report, by)


def test_without_a_program_it_is_what_was_decided() -> None:
    status = {"conv": "annotated", "view": "shared", "gate": "float"}
    operators = tuple(
        Operator(name, "aten.op.default", "", kind, "") for name, kind in status.items()
    )
    results = node_data(Report("toy", "Net", operators, Sizes(1, None)))["results"]
    assert [found["value"] for found in results.values()] == ["int8", "int8", "float"]


def test_a_saved_overlay_is_the_node_data(report: Report, tmp_path: Path) -> None:
    report.save_overlay(tmp_path / "overlay.json")
    text = (tmp_path / "overlay.json").read_text(encoding="utf-8")
    assert json.loads(text) == node_data(report)
