"""Pins `qreg quantize`: the program that it writes, and the errors of files and arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import batches, failed, run, succeeded
from quantizing import Net
from torch import nn

from qreg.inputs.specs import cloned


def test_quantize_writes_a_program_that_runs(model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.toy"
    succeeded("quantize", model, "--backend", "toy", "--calibration", data, "-o", output)
    (x,) = batches()[0]
    got, wanted = torch.export.load(output).module()(x), Net().eval()(x)
    assert 0 < (got - wanted).square().sum() / wanted.square().sum() < 1e-3


def test_quantize_takes_no_more_batches_than_it_is_told(model: Path, data: Path) -> None:
    options = ("--backend", "toy", "--calibration", data, "--max-batches", 2)
    output = run("quantize", model, *options).output
    assert "calibrate after 2 of 2" in output
    assert "ran 2 inputs" in output


def test_an_interrupted_quantize_says_how_far_it_came_and_writes_nothing(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C raises KeyboardInterrupt wherever the main thread is; here, in the second batch."""
    calls = iter([None, KeyboardInterrupt()])

    def interrupted(batch: object) -> tuple[object, ...]:
        if problem := next(calls):
            raise problem
        return cloned(batch)

    monkeypatch.setattr("qreg.pipeline.calibrate.cloned", interrupted)
    output = tmp_path / "net.toy"
    result = run("quantize", model, "--backend", "toy", "--calibration", data, "-o", output)
    assert result.exit_code == 130
    assert "stopped in calibrate after 1 of 3; nothing was written" in result.output
    assert list(tmp_path.glob("net.toy*")) == []


def test_an_interrupted_quantize_goes_on_from_its_work_folder(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    options = ("--backend", "toy", "--calibration", data, "--algorithms", "gptq", "--work", work)
    with monkeypatch.context() as patched:
        patched.setattr("qreg.pipeline.improvement.write", _stopped)
        result = run("quantize", model, *options)
    assert result.exit_code == 130
    assert f"stopped in try gptq; what is finished is in {work}" in result.output
    monkeypatch.setattr("qreg.algorithms.gptq.rounding", _stopped)
    assert "wrote" in succeeded("quantize", model, *options)


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_quantize_says_what_became_of_the_model(model: Path, data: Path) -> None:
    output = succeeded("quantize", model, "--backend", "toy", "--calibration", data)
    assert "aten.linear.default" in output
    assert "loaded in torch, ran 3 inputs" in output
    assert "3 of 3 operators in int8" in output


def test_quantize_writes_beside_the_model_with_the_suffix_of_the_backend(
    model: Path, data: Path
) -> None:
    output = succeeded("quantize", model, "--backend", "toy", "--calibration", data)
    written = model.with_suffix(".toy")
    assert f"{written} ({written.stat().st_size} bytes)" in " ".join(output.split())


def test_quantize_takes_a_config_by_name(model: Path) -> None:
    output = succeeded("quantize", model, "--backend", "toy", "--config", "dynamic", "--no-verify")
    assert "dynamic, by the global config" in output
    assert "not verified" in output


def test_quantize_can_leave_a_model_in_float(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "float.pt2"
    torch.export.save(torch.export.export(nn.Sigmoid(), batches()[0]), path)
    command = ("quantize", path, "--backend", "toy", "--calibration", data)
    assert "nothing in this model would be quantized" in failed(*command)
    assert "has no annotator for aten.sigmoid.default" in succeeded(*command, "--allow-float")


@pytest.mark.parametrize(
    ("asked", "types"),
    [("int8", ["int8", "int8"]), ("output", ["float32", "int8"])],
)
def test_quantize_takes_and_gives_integers_where_it_is_told(
    asked: str, types: list[str], model: Path, data: Path
) -> None:
    succeeded("quantize", model, "--backend", "toy", "--calibration", data, "--io", asked)
    graph = torch.export.load(model.with_suffix(".toy")).graph
    (given,) = (node for node in graph.nodes if node.op == "placeholder" and node.name == "x")
    (returned,) = graph.output_node().args[0]
    found = [str(node.meta["val"].dtype) for node in (given, returned)]
    assert found == [f"torch.{each}" for each in types]


def test_quantize_without_calibration_data_asks_for_it(model: Path) -> None:
    message = failed("quantize", model, "--backend", "toy")
    assert "needs calibration data" in message
    assert "pass --calibration FILE" in message
    assert "calibration=[" not in message
    assert not model.with_suffix(".toy").exists()


def test_a_model_without_anything_to_quantize_names_the_option_that_goes_on(
    tmp_path: Path, data: Path
) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(torch.nn.Tanh(), (torch.zeros(8, 4),)), path)
    message = failed("quantize", path, "--backend", "toy", "--calibration", data)
    assert "pass --allow-float to continue in float" in message


def test_bits_choose_the_config_of_each_layer(model: Path, data: Path) -> None:
    """The toy's weight has 16 elements of 8 bits, and one scale of 32."""
    options = ("--backend", "toy", "--calibration", data, "--bits")
    output = succeeded("quantize", model, *options, 10)
    assert "10.00 bits per weight: 1 in dynamic" in output
    message = failed("quantize", model, *options, 9, "--bits-from", "histogram,minmax")
    assert "no configs have 9 bits per weight on average (expected at least 10)" in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--bits", 5), "Pass --calibration FILE"),
        (("--bits", "nan"), "bits: it is nan"),
        (("--bits-from", "dynamic"), "Pass --bits"),
        (("--bits", 5, "--config", "dynamic"), "Omit --config"),
        (("--bits", 5, "--calibration", "data.pt", "--bits-from", "dynamc"), "Did you mean"),
    ],
)
def test_mistakes_with_bits_are_found_before_the_files_are_read(
    options: tuple[object, ...], expected: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pt2"
    assert expected in failed("quantize", missing, "--backend", "toy", *options)


def test_an_unknown_backend_is_found_before_the_files_are_read(tmp_path: Path) -> None:
    message = failed("quantize", tmp_path / "missing.pt2", "--backend", "tou")
    assert "unknown backend 'tou'" in message


def test_an_unknown_config_is_found_before_the_files_are_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pt2"
    message = failed("quantize", missing, "--backend", "toy", "--config", "minmix")
    assert "Did you mean 'minmax'" in message


@pytest.mark.parametrize("where", ["missing/net.toy", "."])
def test_an_unwritable_output_is_found_before_the_files_are_read(
    where: str, tmp_path: Path
) -> None:
    output = tmp_path / where
    message = failed("quantize", tmp_path / "missing.pt2", "--backend", "toy", "-o", output)
    assert "cannot be written" in message or "is a folder" in message


def test_a_file_that_is_no_program_says_how_to_write_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt2"
    path.write_bytes(b"no archive")
    assert "torch.export.save(program, path)" in failed("quantize", path, "--backend", "toy")


def test_a_batch_that_does_not_fit_is_named(model: Path, data: Path) -> None:
    torch.save([(torch.zeros(8, 4),), (torch.zeros(8, 5),)], data)
    message = failed("quantize", model, "--backend", "toy", "--calibration", data)
    assert "calibration batch 1: input 'x': has shape (8, 5)" in message


METRIC = """
import torch

def largest(run):
    return run(torch.eye(8, 4)).max().item()

def broken(run):
    return run(torch.eye(8, 4)).missing

def only_float(run):
    return 0.5 if "result" not in run.__qualname__.lower() else float("nan")
"""


@pytest.fixture
def metric(tmp_path: Path) -> Path:
    path = tmp_path / f"metric_{abs(hash(tmp_path))}.py"
    path.write_text(METRIC, encoding="utf-8")
    return path


def test_a_metric_is_printed_for_the_float_model_and_the_program(
    model: Path, data: Path, metric: Path
) -> None:
    options = ("--backend", "toy", "--calibration", data, "--evaluate", f"{metric}:largest")
    result = run("quantize", model, *options, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["metric"]
    x = torch.eye(8, 4)
    assert found["in_float"] == Net().eval()(x).max().item()
    assert found["program"] == torch.export.load(model.with_suffix(".toy")).module()(x).max().item()
    change = f"({found['program'] - found['in_float']:+.3g})"
    wanted = f"metric: {found['in_float']:.6g} in float, {found['program']:.6g} as program {change}"
    assert wanted in succeeded("quantize", model, *options)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", "AttributeError: 'Tensor' object has no attribute 'missing', at "),
        ("only_float", "it returned NaN for the program"),
        ("no_such", "has no 'no_such'"),
    ],
)
def test_a_metric_that_fails_leaves_no_program(
    name: str, expected: str, model: Path, data: Path, metric: Path
) -> None:
    options = ("--backend", "toy", "--calibration", data, "--evaluate", f"{metric}:{name}")
    assert expected in failed("quantize", model, *options, "--save-recipe", "recipe.toml")
    assert not model.with_suffix(".toy").exists()
    assert not Path("recipe.toml").exists()
