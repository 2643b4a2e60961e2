"""Several backends in one environment: the same words for each, on the same model.

The environment says which: whatever stock backends are installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import qreg
from qreg.cli.main import main
from qreg.errors import InputError
from qreg.plugins.registry import installed

STOCK = ("xnnpack", "onnxruntime", "openvino", "x86_inductor", "arm")
HERE = [name for name in STOCK if name in installed().backends()]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 24),
    ).eval()


@pytest.fixture(scope="module")
def batches() -> list[tuple[torch.Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(1, 3, 16, 16),) for _ in range(4)]


@pytest.fixture(scope="module", params=HERE)
def result(
    request: pytest.FixtureRequest, model: nn.Module, batches: list[tuple[torch.Tensor]]
) -> qreg.Result:
    return qreg.quantize(
        model, batches[0], backend=request.param, calibration=batches, progress=False
    )


@pytest.fixture(scope="module")
def files(
    model: nn.Module,
    batches: list[tuple[torch.Tensor]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("files")
    torch.export.save(torch.export.export(model, batches[0]), folder / "model.pt2")
    torch.save(batches, folder / "data.pt")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_several_backends_are_here() -> None:
    assert len(HERE) > 1


def test_the_convolutions_and_the_linear_run_in_int8(result: qreg.Result) -> None:
    assert result.audit is not None
    assert not result.audit.defects
    places = {
        decision.operator: result.audit.placements[decision.node].place
        for decision in result.decisions
        if decision.operator in ("aten.conv2d.default", "aten.linear.default")
    }
    assert set(places.values()) == {"int8"}
    assert result.report.int8_share == 1.0


def test_the_program_agrees_with_float_and_its_converted_model(result: qreg.Result) -> None:
    found = result.verification
    assert found is not None
    assert found.to_float[0].sqnr > 25
    assert found.to_converted[0].sqnr > 30


def test_it_gives_the_same_at_every_call_and_keeps_its_input(
    result: qreg.Result, batches: list[tuple[torch.Tensor]]
) -> None:
    (x,) = batches[1]
    before = x.clone()
    outputs = [result.run(x) for _ in range(3)]
    assert torch.equal(x, before)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6)
    assert torch.allclose(outputs[0], outputs[2], atol=1e-6)


def test_a_saved_program_is_verified_from_its_files(
    result: qreg.Result, files: Path, tmp_path: Path
) -> None:
    suffix = result.target.backend.suffix
    result.save(tmp_path / f"program{suffix}")
    answer = run(
        *("verify", tmp_path / f"program{suffix}", "--reference", files / "model.pt2"),
        *("--inputs", files / "data.pt", "--backend", result.backend, "--json"),
    )
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout[answer.stdout.index("{") :])
    assert found["samples"] == 4
    assert found["to_float"][0]["sqnr"] > 25


def test_a_bundle_runs_and_verifies_as_its_result(
    result: qreg.Result, batches: list[tuple[torch.Tensor]], tmp_path: Path
) -> None:
    """Also for programs of several files."""
    result.save_bundle(tmp_path / "bundle")
    bundle = qreg.load(tmp_path / "bundle")
    assert bundle.program == result.program
    assert torch.allclose(bundle.run(*batches[1]), result.run(*batches[1]), atol=1e-6)
    assert result.verification is not None
    assert bundle.verify().worst_sqnr == pytest.approx(result.verification.worst_sqnr, abs=0.01)
    assert bundle.report.as_dict() == result.report.as_dict()


def test_a_name_of_another_backend_is_refused(result: qreg.Result, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a name that ends with"):
        result.save(tmp_path / "program.other")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", HERE)
def test_its_table_and_options_are_listed(name: str) -> None:
    answer = run("ops", name, "--json")
    assert answer.exit_code == 0, answer.output
    listed: dict[str, Any] = json.loads(answer.stdout)
    assert [each["config"] for each in listed["configs"] if each["default"]]
    backend = installed().backend(name).value
    assert listed["patterns"] or backend.quantizer is not None
    assert [each["option"] for each in listed["options"]] == [o.name for o in backend.options]


@pytest.mark.parametrize("name", HERE)
def test_what_becomes_of_a_model_is_explained(name: str, files: Path) -> None:
    answer = run("explain", files / "model.pt2", "--backend", name)
    assert answer.exit_code == 0, answer.output
    assert f"Sequential for {name}" in answer.output
    assert "no program was made" in answer.output


COMPILED = [name for name in HERE if name == "x86_inductor"]  # with g++, which takes seconds
QUICK = [name for name in HERE if name not in COMPILED]


@pytest.mark.parametrize("names", [QUICK, pytest.param(COMPILED, marks=pytest.mark.slow)])
def test_all_of_them_are_compared(names: list[str], files: Path) -> None:
    model, data = files / "model.pt2", files / "data.pt"
    answer = run(
        *("compare", model, "--calibration", data, "--backends", ",".join(names)),
        *("--rounds", 5, "--json"),
    )
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout[answer.stdout.index("{") :])
    assert [each["backend"] for each in found["entries"]] == ["float", *names]
    for entry in found["entries"][1:]:
        assert entry["failure"] is None, entry
        assert entry["int8_share"] == 1.0
        simulated = installed().backend(entry["backend"]).value.simulated
        assert (entry["milliseconds"] is None) is simulated
