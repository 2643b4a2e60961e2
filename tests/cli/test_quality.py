"""Pins what the commands do about programs far from float: warnings, `--strict`, `--float`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import failed, run, succeeded


@pytest.mark.usefixtures("_in_this_process")
def test_a_program_far_from_float_is_written_with_a_warning(raw: tuple[Path, Path]) -> None:
    model, data = raw
    arguments = (model, "--backend", "toy", "--calibration", data)
    result = run("quantize", *arguments)
    assert result.exit_code == 0
    assert result.stderr.count("Warning: output 0 of the program is ") == 1
    assert "Keep it in float: --float 0\n" in result.stderr
    assert "set_module_name" not in result.output
    assert result.stdout.startswith("FAR FROM FLOAT: output 0")
    program = model.with_suffix(".toy")
    assert program.exists()

    judged = run("verify", program, "--reference", model, "--inputs", data, "--backend", "toy")
    assert judged.exit_code == 0, judged.output
    assert "Warning: output 0 of the program is " in judged.stderr
    assert "verified" not in judged.stdout


@pytest.mark.usefixtures("_in_this_process")
def test_the_option_that_a_warning_names_keeps_a_module_in_float(raw: tuple[Path, Path]) -> None:
    model, data = raw
    arguments = (model, "--backend", "toy", "--calibration", data, "--strict")
    assert "--float 0" in failed("quantize", *arguments)
    succeeded("quantize", *arguments, "--float", "0")
    report = json.loads(run("explain", *arguments, "--float", "0", "--json").stdout)
    kept = [each["status"] for each in report["operators"] if each["module"] == "0"]
    assert kept == ["float"]
    assert report["verification"]["verdict"] == "good"


def test_operators_are_kept_in_float_by_their_names(model: Path) -> None:
    answer = run("explain", model, "--backend", "toy", "--float", "aten.add.Tensor", "--json")
    statuses = {each["name"]: each["status"] for each in json.loads(answer.stdout)["operators"]}
    assert (statuses["add"], statuses["linear"]) == ("float", "annotated")


@pytest.mark.parametrize("command", ["quantize", "explain"])
def test_a_module_to_keep_in_float_that_is_not_there_has_near_names(
    command: str, model: Path, data: Path
) -> None:
    arguments = ("--backend", "toy", "--calibration", data)
    message = failed(command, model, *arguments, "--float", "fcc")
    assert "comes from a module of name 'fcc'. Near: fc. Correct the name." in message
    assert "unknown_modules" not in message
    assert "near: 'aten.add" in failed(command, model, *arguments, "--float", "aten.ad.Tensor")


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize("command", ["quantize", "explain"])
def test_an_operator_to_keep_in_float_that_the_model_does_not_have_is_a_warning(
    command: str, model: Path, data: Path
) -> None:
    arguments = (model, "--backend", "toy", "--calibration", data)
    found = run(command, *arguments, "--float", "aten.add.Scalar")
    assert found.exit_code == 0, found.output
    assert found.stderr.count("Warning: scope of operator 'aten.add.Scalar': the scope has") == 1
    assert "Did you mean 'aten.add.Tensor'?" in found.stderr
    assert "UserWarning" not in found.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "-3"])
@pytest.mark.parametrize("command", ["quantize", "explain", "verify", "compare"])
def test_no_command_begins_with_a_least_ratio_that_is_not_one(
    command: str, value: str, model: Path
) -> None:
    needed = {
        "quantize": [],
        "explain": [],
        "verify": ["--reference", "missing", "--inputs", "missing"],
        "compare": ["--calibration", "missing", "--backends", "toy"],
    }
    message = failed(command, model, *needed[command], "--min-sqnr", value)
    assert message.startswith("Error: --min-sqnr: ")
    assert "(expected decibels, such as 10.0)" in message


EVERY = ["--load-plugins", "toy", "--strict"]  # a fault of another plugin would be an error too


@pytest.mark.parametrize("before", [EVERY, []], ids=["for every command", "for one"])
def test_strict_makes_a_program_far_from_float_an_error(
    before: list[str], raw: tuple[Path, Path]
) -> None:
    model, data = raw
    after = [] if before else ["--strict"]
    arguments = (*after, "--backend", "toy", "--calibration", data)
    message = failed(*before, "quantize", model, *arguments)
    assert "dB from the float model" in message
    assert not model.with_suffix(".toy").exists()
    page = model.with_suffix(".html")
    failed(*before, "explain", model, *arguments, "--html", page)
    assert not page.exists()


@pytest.mark.usefixtures("_in_this_process")
def test_the_least_ratio_is_an_option(model: Path, data: Path) -> None:
    arguments = ("--backend", "toy", "--calibration", data)
    assert "at least" not in run("quantize", model, *arguments).stderr
    assert "at least 80 dB" in run("explain", model, *arguments, "--min-sqnr", 80).stderr
    program = model.with_suffix(".toy")
    against = ("--reference", model, "--inputs", data, "--backend", "toy", "--min-sqnr", 80)
    assert "at least 80 dB" in run("verify", program, *against).stderr
    assert "at least 80 dB" in failed("verify", program, *against, "--strict")
    found = json.loads(run("verify", program, *against, "--json").stdout)
    assert (found["verdict"], found["min_sqnr"]) == ("poor", 80.0)
