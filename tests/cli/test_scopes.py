"""Pins the options for parts of a model, and the report that `qreg quantize` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import batches, failed, run, succeeded
from quantizing import TwoLinears


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.pt2"
    torch.export.save(torch.export.export(TwoLinears().eval(), batches()[0]), path)
    return path


def decided(model: Path, data: Path, *options: object) -> dict[str, str]:
    """The reason of each operator, by its module or its name."""
    given = ("--backend", "toy", "--calibration", data, "--no-verify", "--json", *options)
    result = run("quantize", model, *given)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return {each["module"] or each["operator"]: each["reason"] for each in found["operators"]}


def test_a_module_has_a_config_for_itself(two: Path, data: Path) -> None:
    reasons = decided(two, data, "--config-for", "first=dynamic")
    assert reasons["first"] == "dynamic, by name 'first'"
    assert reasons["second"] == "minmax, by the global config"


@pytest.mark.parametrize("name", ["Linear", "torch.nn.Linear", "torch.nn.modules.linear.Linear"])
def test_modules_of_a_class_stay_in_float(name: str, two: Path, data: Path) -> None:
    reasons = decided(two, data, "--float-type", name, "--config-for", "first=dynamic")
    assert reasons["first"] == "dynamic, by name 'first'"
    assert "type 'torch.nn.modules.linear.Linear' keeps it in float" in reasons["second"]


def test_an_operator_stays_in_float(two: Path, data: Path) -> None:
    reasons = decided(two, data, "--float-operator", "aten.add.Tensor")
    assert "operator 'aten.add.Tensor' keeps it in float" in reasons["aten.add.Tensor"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--config-for", "first"), "no module is named (expected MODULE=first)"),
        (("--config-for", "first=minmix"), "Did you mean 'minmax'"),
        (("--config-for", "first=dynamic", "--float", "first"), "has another config"),
        (("--config-for", "frist=dynamic"), "Near: first"),
        (("--float-operator", "aten.ad.Tensor"), "aten.ad"),
        (("--bits", 9, "--config-for", "first=dynamic"), "Omit --config-for"),
        (("--overlay-by", "sqnr"), "Pass --numerics"),
    ],
)
def test_mistakes_have_the_remedy(
    options: tuple[object, ...], expected: str, two: Path, data: Path
) -> None:
    given = ("--backend", "toy", "--calibration", data)
    assert expected in failed("quantize", two, *given, *options)
    assert not two.with_suffix(".toy").exists()


def test_quantize_writes_its_report_in_every_form(two: Path, data: Path, tmp_path: Path) -> None:
    page, overlay = tmp_path / "report.html", tmp_path / "nodes.json"
    given = ("--backend", "toy", "--calibration", data, "--html", page, "--overlay", overlay)
    result = run("quantize", two, *given, "--numerics", "--overlay-by", "sqnr", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["operators"][0]["sqnr"] > 20
    assert "<!doctype html>" in page.read_text(encoding="utf-8").lower()
    assert json.loads(overlay.read_text(encoding="utf-8"))
    assert f"wrote {two.with_suffix('.toy')}" in result.stderr.replace("\n", "")


def test_the_operators_are_printed_where_their_noise_is_measured(two: Path, data: Path) -> None:
    given = ("--backend", "toy", "--calibration", data)
    assert "Operators, the noisiest first" in succeeded("quantize", two, *given, "--numerics")
