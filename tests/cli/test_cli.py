"""Pins the command line, on files and on a toy backend that is installed for the time of a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from qreg import Registry
from qreg.cli.main import main
from qreg.plugins.manager import PluginWarning
from qreg.plugins.registry import installed
from qreg.programs.inputs import cloned
from qreg.verification.runner import run_program

TOY = Path(__file__).parents[1] / "toy.py"

pytestmark = pytest.mark.usefixtures("toy_installed")


@pytest.fixture
def toy_installed(distribution: Callable[..., Path]) -> Iterator[None]:
    distribution("qreg-toy", TOY.read_text(encoding="utf-8"), version="0.7")
    installed.cache_clear()
    yield
    installed.cache_clear()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).relu() + x


def batches() -> list[tuple[Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(8, 4),) for _ in range(3)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), batches()[0]), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.pt"
    torch.save(batches(), path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def succeeded(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def failed(*arguments: object) -> str:
    """The message of a command that fails as it should: exit code 1, and no traceback."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    _, error, message = result.output.rpartition("Error: ")
    assert error, result.output
    return error + message


# list


def test_list_has_one_line_for_a_plugin() -> None:
    (line,) = (line for line in succeeded("list").splitlines() if line.split()[:1] == ["toy"])
    assert line.split()[1:4] == ["qreg-toy", "0.7", "toy"]
    assert "int8 in torch itself" in line


def test_list_prints_json() -> None:
    (row,) = (row for row in json.loads(succeeded("list", "--json")) if row["plugin"] == "toy")
    assert row == {
        "plugin": "toy",
        "distribution": "qreg-toy",
        "version": "0.7",
        "backends": ["toy"],
        "summary": "int8 in torch itself",
        "left out": "",
        "broken": "",
    }


def test_plugins_are_chosen_by_options() -> None:
    assert "not among those to load" in succeeded("--load-plugins", "", "list")
    assert "disabled (--disable-plugins" in succeeded("--disable-plugins", "toy", "list")
    assert run("--disable-plugins", "toy", "ops", "toy").exit_code == 1


def test_a_plugin_to_load_that_is_not_there_is_an_error() -> None:
    result = run("--load-plugins", "toi", "list")
    assert result.exit_code == 1
    assert "Did you mean 'toy'" in result.output


def test_strict_makes_a_broken_plugin_an_error(distribution: Callable[..., Path]) -> None:
    distribution("qreg-broken", "raise RuntimeError('no luck')")
    with pytest.warns(PluginWarning):
        assert "no luck" in succeeded("list")
    result = run("--strict", "list")
    assert result.exit_code == 1
    assert "plugin 'broken' of distribution 'qreg-broken' 1.0 is broken" in result.output


def test_trace_prints_each_call_of_a_hook() -> None:
    result = run("--trace", "ops", "toy")
    assert "qreg: qreg_annotators('toy') of plugin toy (qreg-toy 0.7): 4 in" in result.stderr


def test_ops_says_which_configs_a_pattern_covers_and_what_it_replaces() -> None:
    rows = json.loads(succeeded("ops", "toy", "--json"))["patterns"]
    by_name = {row["annotator"]: row for row in rows}
    assert by_name["linear"]["configs"] == ["minmax", "histogram", "dynamic", "qat"]
    assert by_name["add"]["configs"] == ["minmax", "histogram", "qat"]
    assert {row["distribution"] for row in rows} == {"qreg-toy"}
    assert by_name["linear"]["replaces"] == []


@pytest.mark.parametrize("plugins", [{}, {"empty": object()}], ids=["no plugin", "no backend"])
def test_list_says_how_to_get_a_backend(
    plugins: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "qreg.cli.plugins.current_registry", lambda: Registry(plugins, entry_points=False)
    )
    assert "pip install qreg-xnnpack" in succeeded("list")
    assert [row["plugin"] for row in json.loads(succeeded("list", "--json"))] == list(plugins)


def test_list_shows_what_is_broken(distribution: Callable[..., Path]) -> None:
    distribution("qreg-broken", "raise RuntimeError('no luck')")
    installed.cache_clear()
    with pytest.warns(UserWarning, match="'qreg-broken'"):
        output = succeeded("list")
    assert "no luck" in output
    assert "qreg-toy" in output


# ops


def test_ops_has_the_configs_and_the_patterns() -> None:
    words = succeeded("ops", "toy").split()
    assert {"minmax", "histogram", "dynamic", "qat"} <= set(words)
    assert {"linear_relu", "linear", "add", "relu", "aten.linear.default"} <= set(words)


def test_ops_prints_json() -> None:
    printed = json.loads(succeeded("ops", "toy", "--json"))
    assert [row["config"] for row in printed["configs"] if row["default"]] == ["minmax"]
    assert [row["annotator"] for row in printed["patterns"]] == [
        "linear_relu",
        "linear",
        "add",
        "relu",
    ]
    assert printed["patterns"][2]["operators"] == ["aten.add.Tensor"]
    assert printed["patterns"][2]["modes"] == "qat static"
    assert {row["distribution"] for row in printed["patterns"]} == {"qreg-toy"}


def test_ops_of_an_unknown_backend_names_near_ones() -> None:
    assert "Did you mean 'toy'?" in failed("ops", "tou")


# quantize


def test_quantize_writes_a_program_that_runs(model: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.toy"
    succeeded("quantize", model, "--backend", "toy", "--calibration", data, "-o", output)
    (x,) = batches()[0]
    got, wanted = torch.export.load(output).module()(x), Net().eval()(x)
    assert 0 < (got - wanted).square().sum() / wanted.square().sum() < 1e-3


def test_quantize_takes_no_more_batches_than_it_is_told(model: Path, data: Path) -> None:
    options = ("--backend", "toy", "--calibration", data, "--max-batches", 2)
    output = succeeded("quantize", model, *options)
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
    assert "pass --allow-float to go on in float" in message


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


@pytest.fixture
def raw(tmp_path: Path) -> tuple[Path, Path]:
    """A model of raw features that its first layer normalises, and its data: all noise in int8."""
    scales = torch.tensor([1e-3, 1.0, 1e3, 30.0])
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    net[0].weight.data /= scales
    data = [(scales * each,) for (each,) in batches()]
    torch.export.save(torch.export.export(net, data[0]), tmp_path / "raw.pt2")
    torch.save(data, tmp_path / "raw.pt")
    return tmp_path / "raw.pt2", tmp_path / "raw.pt"


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy backend's loader knows torchao's operators only where they were imported."""
    monkeypatch.setattr("qreg.verification.isolation.run_isolated", run_program)


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
    assert "comes from a module of name 'fcc'. Near: fc. Correct it." in message
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
    assert run("quantize", model, *arguments).stderr.count("Warning:") == 0
    assert "at least 80 dB" in run("explain", model, *arguments, "--min-sqnr", 80).stderr
    program = model.with_suffix(".toy")
    against = ("--reference", model, "--inputs", data, "--backend", "toy", "--min-sqnr", 80)
    assert "at least 80 dB" in run("verify", program, *against).stderr
    assert "at least 80 dB" in failed("verify", program, *against, "--strict")
    found = json.loads(run("verify", program, *against, "--json").stdout)
    assert (found["verdict"], found["min_sqnr"]) == ("poor", 80.0)
