"""``qreg tune``: its output, its files, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import failed, run, succeeded

METRIC = """
import torch

def accuracy(run):
    torch.manual_seed(2)
    scales = torch.tensor([1e-3, 1.0, 1e3, 30.0])
    rows = [(scales * torch.randn(8, 4),) for _ in range(20)]
    found = torch.cat([run(*each).argmax(1) for each in rows])
    global wanted
    wanted = globals().get("wanted", found)
    return (found == wanted).float().mean().item()

def one(run):
    return 1.0

calls = []

def stopped(run):
    calls.append(run)
    if len(calls) == 3:
        raise KeyboardInterrupt
    return 1.0 if len(calls) == 1 else 0.5

def broken(run):
    raise ValueError("no labels")

number = 3
"""


@pytest.fixture(autouse=True)
def metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module with metrics in the current folder; each test has another name for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"metric_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(METRIC, encoding="utf-8")
    return name


def arguments(raw: tuple[Path, Path], evaluate: str, *more: object) -> tuple[object, ...]:
    model, data = raw
    given = ("--calibration", data, "--evaluate", evaluate, "--backends", "toy")
    return "tune", model, *given, "--algorithms", "none", *more


def test_each_trial_is_a_line_and_the_best_program_is_written(
    raw: tuple[Path, Path], metric: str, tmp_path: Path
) -> None:
    page, program = tmp_path / "page.html", tmp_path / "best.toy"
    more = ("--html", page, "-o", program)
    output = succeeded(*arguments(raw, f"{metric}:accuracy", *more))
    heading, first, *_ = (
        each for each in output.splitlines() if " toy minmax" in each or "what" in each
    )
    assert heading.split() == [
        *("trial", "metric", "int8", "MACs", "bytes", "ms", "verdict", "what"),
    ]
    assert first.index("missed") == heading.index("verdict")
    assert "met by toy minmax, 1 pattern in float" in output
    assert "of 0 stays in float" in output
    assert "<circle" in page.read_text(encoding="utf-8")
    assert program.read_bytes() == (tmp_path / "raw.tune" / "best.toy").read_bytes()


def test_json_is_alone_on_standard_output(raw: tuple[Path, Path], metric: str) -> None:
    result = run(*arguments(raw, f"{metric}:one", "--json"))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["met"], len(found["trials"])) == (True, 1)
    assert "met           toy minmax" in result.stderr


def test_a_limit_that_is_not_met_fails_if_strict(raw: tuple[Path, Path], metric: str) -> None:
    options = ("--budget", "2", "--max-drop", "0", "--work")
    evaluate = f"{metric}:accuracy"
    result = run(*arguments(raw, evaluate, *options, "loose"))
    assert result.exit_code == 0, result.output
    assert "Warning: tune: NOT MET" in result.stderr
    assert "with --budget, a larger --max-drop" in result.stderr
    assert "NOT MET" in failed(*arguments(raw, evaluate, *options, "strict", "--strict"))


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ("accuracy", "no function is named (expected MODULE:FUNCTION)"),
        ("no_such_module:accuracy", "module 'no_such_module' cannot be imported"),
        ("{}:acuracy", "has no 'acuracy'. Did you mean 'accuracy'?"),
        ("{}:number", "it is 3, not a function"),
        ("{}:broken", "evaluate: it raised ValueError: no labels, at "),
    ],
)
def test_ametric_that_is_not_there_is_named(
    evaluate: str, message: str, raw: tuple[Path, Path], metric: str
) -> None:
    result = run(*arguments(raw, evaluate.format(metric)))
    assert result.exit_code == 1
    assert message in result.output


def test_ctrl_c_says_what_is_kept(raw: tuple[Path, Path], metric: str, tmp_path: Path) -> None:
    result = run(*arguments(raw, f"{metric}:stopped"))
    assert result.exit_code == 130
    assert "1 trial is in raw.tune" in result.stderr.replace(f"{tmp_path}/", "")
    assert (tmp_path / "raw.tune" / "best.toy").is_file()


def test_data_and_files_are_checked_first(raw: tuple[Path, Path], metric: str) -> None:
    model, data = raw
    given = ("tune", model, "--evaluate", f"{metric}:one", "--backends", "toy")
    assert "is an input" in failed(*given, "--calibration", data, "-o", model)
    mistaken = failed(*given, "--calibration", data, "-o", "best.pte")
    assert "not a name for a program of toy (expected a name that ends with .toy)" in mistaken
    assert "'nothing.pt': there is no such file" in failed(*given, "--calibration", "nothing.pt")
    assert "Did you mean 'toy'" in failed(*given[:-1], "tay", "--calibration", data)
