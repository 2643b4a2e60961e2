"""Pins that commands take models from code, with the line of code that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import batches, failed, succeeded
from quantizing import Net

SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(width, 4)

    def forward(self, x):
        return self.fc(x).relu() + x


made = Net()
program = torch.export.export(Net().eval(), (torch.zeros(8, 4),))


def pair():
    return Net(), (torch.zeros(8, 4),)


def broken():
    return Net("wide")


def number():
    return 3


def metric(run):
    return 1.0


def batches():
    torch.manual_seed(1)
    for _ in range(3):
        yield (torch.randn(8, 4),)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module in the current folder; each test has another name for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"net_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("suffix", "name"), [("", "Net"), ("", "made"), ("", "program"), ("", "pair"), (".py", "Net")]
)
def test_a_model_of_code_gives_the_program_of_a_file(
    name: str, suffix: str, code: str, model: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--backend", "toy", "--calibration", data, "--no-verify")
    succeeded("quantize", f"{code}{suffix}:{name}", *options)
    succeeded("quantize", model, *options)
    x = batches()[0][0]
    programs = tmp_path / f"{name}.toy", tmp_path / "net.toy"
    found, wanted = (torch.export.load(each).module()(x) for each in programs)
    assert torch.equal(found, wanted)


@pytest.mark.usefixtures("_in_this_process")
def test_every_command_reads_models_and_data_of_code(code: str, tmp_path: Path) -> None:
    model, data = f"{code}:Net", ("--calibration", f"{code}:batches")
    program = tmp_path / "net.toy"
    succeeded("quantize", model, "--backend", "toy", *data, "-o", program)
    assert "3 of 3 operators in int8" in succeeded("explain", model, "--backend", "toy", *data)
    options = ("--reference", model, "--inputs", f"{code}.py:batches", "--backend", "toy")
    assert "ran 3 inputs" in succeeded("verify", program, *options)
    options = ("--evaluate", f"{code}:metric", "--backends", "toy", "--budget", "2")
    assert "met by toy minmax" in succeeded("tune", model, *data, *options)
    assert (tmp_path / "Net.tune" / "best.toy").is_file()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{}:broken", "it raised TypeError"),
        ("{}:number", "it is an int (expected a module, a program"),
        ("{}:Nat", "Did you mean 'Net'"),
        ("no_such:Net", "neither in the current folder nor installed"),
        ("no_such.py:Net", "no_such.py is not a file"),
        ("{}:Net", "has no example inputs"),
    ],
)
def test_a_model_that_code_does_not_make_is_named(name: str, expected: str, code: str) -> None:
    options = ("--backend", "toy", "--config", "dynamic")
    assert expected in failed("quantize", name.format(code), *options)
    assert not list(Path.cwd().glob("*.toy"))


def test_the_line_that_raises_is_that_of_the_user(code: str, tmp_path: Path) -> None:
    """The error is raised by torch; the last line of the user's module is that of the layer."""
    line = SOURCE.splitlines().index("        self.fc = nn.Linear(width, 4)") + 1
    message = failed("explain", f"{code}.py:broken", "--backend", "toy")
    assert message.rstrip().endswith(f", at {tmp_path / code}.py:{line}")


def test_a_mistake_of_syntax_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "misspelt.py"
    path.write_text("x = 1\nmodel = = 2\n", encoding="utf-8")
    message = failed("explain", f"{path}:model", "--backend", "toy")
    assert f"SyntaxError: invalid syntax (misspelt.py, line 2), at {path}:2" in message


def test_a_module_is_not_changed(code: str, data: Path) -> None:
    import importlib

    module = importlib.import_module(code)
    before = Net().state_dict()
    succeeded("quantize", f"{code}:made", "--backend", "toy", "--calibration", data)
    assert all(torch.equal(each, before[name]) for name, each in module.made.state_dict().items())
