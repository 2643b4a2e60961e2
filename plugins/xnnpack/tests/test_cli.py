"""The command line on files, with the real backend; listing without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import qreg
from qreg.cli.main import main


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, calibration data for it, and its program."""
    files = tmp_path_factory.mktemp("originals")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    torch.export.save(torch.export.export(model, (torch.randn(1, 8),)), files / "model.pt2")
    torch.save([(torch.randn(1, 8),) for _ in range(8)], files / "data.pt")
    assert quantize(files).exit_code == 0
    return files


@pytest.fixture
def files(originals: Path, tmp_path: Path) -> Path:
    """A folder with the model, its calibration data, and nothing else."""
    for name in ("model.pt2", "data.pt"):
        shutil.copy(originals / name, tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def quantize(files: Path, *options: object) -> Result:
    calibration = ("--calibration", files / "data.pt")
    return run("quantize", files / "model.pt2", *calibration, "-o", files / "model.pte", *options)


def test_a_file_becomes_a_program_that_runs(files: Path) -> None:
    answer = quantize(files)
    assert answer.exit_code == 0, answer.output
    assert "linear_relu" in answer.output
    assert "delegates: 1, not delegated: none" in answer.output
    load = qreg.plugins.registry.installed().backend("xnnpack").value.load
    (output,) = load((files / "model.pte").read_bytes())([torch.zeros(1, 8)])
    assert output.shape == (1, 4)


def test_a_missing_calibration_is_found_before_any_work(files: Path) -> None:
    answer = run("quantize", files / "model.pt2", "-o", files / "model.pte")
    assert answer.exit_code == 1
    assert "needs calibration data" in answer.output
    assert not (files / "model.pte").exists()


def test_a_dynamic_config_needs_no_calibration(files: Path) -> None:
    options = ("--config", "int8_dynamic_per_channel", "-o", files / "model.pte")
    answer = run("quantize", files / "model.pt2", *options)
    assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize("name", ["model.pt2", "data.pt"])
def test_an_input_is_never_overwritten(files: Path, name: str) -> None:
    before = (files / name).read_bytes()
    answer = run(
        *("quantize", files / "model.pt2", "--calibration", files / "data.pt", "-o", files / name)
    )
    assert answer.exit_code == 1
    assert "is an input: name another output" in answer.output
    assert (files / name).read_bytes() == before


def test_an_unwritable_output_is_found_before_the_model_is_read(files: Path) -> None:
    answer = run("quantize", files / "missing.pt2", "-o", files / "no" / "such" / "model.pte")
    assert answer.exit_code == 1
    assert "cannot be written" in answer.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backend", "xnnpak"), "Did you mean 'xnnpack'"),
        (("--config", "int4"), "unknown config of backend 'xnnpack': 'int4'"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(
    files: Path, options: tuple[str, ...], message: str
) -> None:
    answer = quantize(files, *options)
    assert (answer.exit_code, message in answer.output) == (1, True), answer.output
    assert sorted(path.name for path in files.iterdir()) == ["data.pt", "model.pt2"]


def test_a_batch_of_the_wrong_shape_is_named(files: Path) -> None:
    torch.save([(torch.randn(1, 8),), (torch.randn(1, 9),)], files / "data.pt")
    answer = quantize(files)
    assert answer.exit_code == 1
    assert "calibration batch 1: input 'input': has shape (1, 9)" in answer.output
    assert not (files / "model.pte").exists()


def test_patterns_are_printed_as_json(files: Path) -> None:
    answer = json.loads(run("ops", "xnnpack", "--json").output)
    assert "int8_static_per_channel" in [row["config"] for row in answer["configs"]]
    patterns = {row["annotator"]: row for row in answer["patterns"]}
    assert patterns["linear"]["operators"] == ["aten.linear.default"]
    assert patterns["linear"]["distribution"] == "qreg-xnnpack"


@pytest.mark.parametrize("command", [["list"], ["ops", "xnnpack"]])
def test_listing_imports_nothing_heavy(command: list[str]) -> None:
    script = (
        "import sys\n"
        "from qreg.cli.main import main\n"
        f"main({command!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'torchao', 'executorch', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "xnnpack" in done.stdout


def test_a_missing_runtime_package_names_the_pip_line(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qreg.plugins.requirements

    real = qreg.plugins.requirements.find_spec
    monkeypatch.setattr(
        qreg.plugins.requirements,
        "find_spec",
        lambda name: None if name == "executorch" else real(name),
    )
    answer = quantize(files)
    assert answer.exit_code == 1
    assert "pip install 'executorch>=1.4.1,<1.6'" in answer.output


def test_what_would_become_of_a_model_is_explained_without_calibration(files: Path) -> None:
    answer = run("explain", files / "model.pt2")
    assert answer.exit_code == 0, answer.output
    assert "3 of 3 operators in int8" in answer.output
    assert "no program was made" in answer.output


def test_with_calibration_the_program_is_explained_and_written_nowhere(files: Path) -> None:
    before = set(files.iterdir())
    calibration = ("--calibration", files / "data.pt")
    answer = run("explain", files / "model.pt2", *calibration, "--numerics", "--timing")
    assert answer.exit_code == 0, answer.output
    for word in ("within XNNFullyConnected", "latency: float", "SQNR", "verified: loaded in"):
        assert word in answer.output
    assert set(files.iterdir()) == before


def test_an_explanation_can_be_read_by_programs(files: Path) -> None:
    answer = run("explain", files / "model.pt2", "--json")
    report = json.loads(answer.stdout)
    assert [each["annotator"] for each in report["operators"]] == [
        "linear_relu",
        "linear_relu",
        "linear",
    ]


def test_a_page_and_an_overlay_are_written_with_the_explanation(files: Path) -> None:
    page, overlay = files / "report.html", files / "overlay.json"
    answer = run("explain", files / "model.pt2", "--html", page, "--overlay", overlay)
    assert answer.exit_code == 0, answer.output
    assert "linear_relu" in page.read_text()
    assert "linear" in overlay.read_text()


def test_a_page_that_cannot_be_written_is_found_before_any_work(files: Path) -> None:
    answer = run("explain", files / "model.pt2", "--html", files / "nowhere" / "report.html")
    assert answer.exit_code == 1
    assert "cannot be written" in answer.output


def test_numerics_without_calibration_is_an_error(files: Path) -> None:
    answer = run("explain", files / "model.pt2", "--numerics")
    assert answer.exit_code == 1
    assert "pass calibration data" in answer.output


def verify(files: Path, program: Path, *options: object) -> Result:
    reference = ("--reference", files / "model.pt2")
    return run("verify", program, *reference, "--inputs", files / "data.pt", *options)


@pytest.fixture
def program(originals: Path, files: Path) -> Path:
    return Path(shutil.copy(originals / "model.pte", files))


def test_a_program_is_verified_against_its_model(files: Path, program: Path) -> None:
    answer = verify(files, program, "--floor", 25)
    assert answer.exit_code == 0, answer.output
    assert "loaded in ExecuTorch with the XNNPACK delegate, ran 8 inputs" in answer.output


def test_a_floor_that_is_not_reached_fails(files: Path, program: Path) -> None:
    answer = verify(files, program, "--floor", 60)
    assert answer.exit_code == 1
    assert "less than 60" in answer.output


def test_a_program_that_was_cut_short_is_refused(files: Path, program: Path) -> None:
    program.write_bytes(program.read_bytes()[:1000])
    answer = verify(files, program)
    assert answer.exit_code == 1
    assert "cut short" in answer.output


def test_a_file_of_another_suffix_is_refused(files: Path) -> None:
    answer = verify(files, files / "data.pt")
    assert answer.exit_code == 1
    assert "ends with .pte" in answer.output
