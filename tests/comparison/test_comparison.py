"""Pins the comparison of backends: one row each, whatever becomes of it."""

from __future__ import annotations

import json
import multiprocessing
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from qreg import compare
from qreg.cli.main import main
from qreg.comparison import Comparison, Entry
from qreg.comparison.contender import Contender, Task, attempt
from qreg.errors import CalibrationError, InputError, UnknownNameError
from qreg.plugins.registry import Registry
from qreg.verification.latency import timed

TOY = Path(__file__).parents[1] / "toy.py"
MODULE = sys.modules[compare.__module__]  # the package has the function under this name
CRASHING = """
import os
from attrs import evolve
import qreg
import toy

@qreg.hookimpl
def qreg_backends():
    yield evolve(toy.BACKEND, name="crashing", load=crash)
    yield evolve(toy.BACKEND, name="raising", load=fail)

def crash(program):
    os.write(2, b"illegal instruction")
    os._exit(7)

def fail(program):
    raise RuntimeError("no such kernel")

@qreg.hookimpl
def qreg_supported_configs(backend):
    return toy.CONFIGS if backend in ("crashing", "raising") else ()

@qreg.hookimpl
def qreg_annotators(backend):
    return toy.ANNOTATORS if backend in ("crashing", "raising") else ()

@qreg.hookimpl
def qreg_lower(backend, program):
    return toy.lower(program) if backend in ("crashing", "raising") else None
"""


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


@pytest.fixture
def batches() -> list[tuple[torch.Tensor]]:
    return [(torch.randn(3, 8),) for _ in range(2)]


@pytest.fixture
def plugins(distribution: Callable[..., Path]) -> Registry:
    """The toy backend, and two that fail, as installed distributions."""
    distribution("qreg-toy", TOY.read_text(encoding="utf-8"), module="toy")
    distribution("qreg-crashing", CRASHING)
    return Registry(load=["toy", "crashing"])


class Here(Contender):
    """Does the task of a process in this one, since each process imports torch anew."""

    def __init__(self, task: Task) -> None:
        self._backend = task.backend
        self._entry, self._run = attempt(task)
        self.can_run = self._run is not None

    def entry(self) -> Entry:
        return self._entry

    def lap(self) -> float:
        assert self._run is not None
        return timed(self._run)

    def close(self) -> None:
        """There is no process to end."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares in this process: for what does not depend on the processes."""
    monkeypatch.setattr(MODULE, "Contender", Here)


def compared(
    model: nn.Module,
    batches: list[tuple[torch.Tensor]],
    registry: Registry,
    *names: str,
    **options: Any,
) -> Comparison:
    return compare(
        model,
        batches[0],
        backends=names,
        calibration=batches,
        rounds=3,
        progress=False,
        registry=registry,
        **options,
    )


def test_every_backend_is_a_row_whatever_becomes_of_it(
    model: nn.Module, batches: list[tuple[torch.Tensor]], plugins: Registry
) -> None:
    found = compared(model, batches, plugins, "toy", "crashing", "raising", "toy")
    rows = {entry.backend: entry for entry in found.entries}
    assert list(rows) == ["float", "toy", "crashing", "raising"]
    assert rows["float"].milliseconds
    assert rows["toy"].works
    assert rows["toy"].milliseconds
    assert 20 < (rows["toy"].sqnr_to_float or 0) < 60
    assert (rows["toy"].sqnr_to_converted or 0) > 100
    assert rows["toy"].int8_share == 1.0
    failures = {name: rows[name].failure or "" for name in ("crashing", "raising")}
    assert "its process ended with the code 7, after 'illegal instruction" in failures["crashing"]
    assert "no such kernel" in failures["raising"]


def test_a_process_without_an_answer_in_time_is_ended(
    model: nn.Module, batches: list[tuple[torch.Tensor]], plugins: Registry
) -> None:
    found = compared(model, batches, plugins, "toy", timeout=0.001)
    for entry in found.entries:
        assert entry.failure == (
            "its process had no answer after 0.001 s, and was ended. Pass a longer timeout."
        )
    assert not multiprocessing.active_children()


class Scored(NamedTuple):
    scores: torch.Tensor
    aux: None


class ByName(nn.Module):
    """Keyword inputs, and an output of a type that other processes do not know."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, *, shift: torch.Tensor, scale: torch.Tensor) -> Scored:
        return Scored(self.model(x + shift) * scale, None)


def test_models_are_compared_on_inputs_by_name(model: nn.Module, plugins: Registry) -> None:
    torch.manual_seed(1)
    shapes = {"scale": (3, 4), "shift": (3, 8), "x": (3, 8)}
    batches = [
        {name: torch.randn(shape).numpy() for name, shape in shapes.items()} for _ in range(4)
    ]
    found = compare(
        ByName(model),
        batches[0],
        backends=["toy"],
        calibration=[(batch, 1) for batch in batches],
        transform=lambda pair: pair[0],
        rounds=3,
        progress=False,
        registry=plugins,
    )
    plain, toy = found.entries
    assert plain.works
    assert toy.works, toy.failure
    assert toy.sqnr_to_float is not None
    assert toy.sqnr_to_float > 25


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.mark.usefixtures("here")
def test_the_command_prints_a_table_json_or_a_page(
    model: nn.Module, batches: list[tuple[torch.Tensor]], plugins: Registry, tmp_path: Path
) -> None:
    torch.export.save(torch.export.export(model, batches[0]), tmp_path / "net.pt2")
    torch.save(batches, tmp_path / "data.pt")
    files = (tmp_path / "net.pt2", "--calibration", tmp_path / "data.pt", "--rounds", 2)
    page = tmp_path / "page.html"
    plain = run("compare", *files, "--backends", "toy", "--config", "toy=histogram", "--html", page)
    assert plain.exit_code == 0, plain.output
    assert "the fastest tenth of 2 rounds in turns, 1 thread" in plain.output
    assert "histogram" in plain.output
    text = page.read_text(encoding="utf-8")
    assert "SQNR to float" in text
    assert not re.search(r"<script[^>]*\ssrc=|<link", text)
    failing = run("compare", *files, "--backends", "raising", "--json")
    assert failing.exit_code == 1
    found = json.loads(failing.stdout)
    assert [entry["backend"] for entry in found["entries"]] == ["float", "raising"]
    mistaken = run("compare", *files, "--backends", "toy", "--config", "histogram")
    assert "expected BACKEND=histogram" in mistaken.output


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--backends", "toy,toi"), "unknown backend 'toi'. Did you mean 'toy'?"),
        (("--backends", "toy", "--config", "toy=histogran"), "Did you mean 'histogram'?"),
        (("--backends", "toy", "--config", "toi=histogram"), "Did you mean 'toy'?"),
    ],
)
def test_names_are_checked_before_files_are_read(
    options: tuple[str, ...], problem: str, plugins: Registry, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    found = run("compare", "no.pt2", "--calibration", "no.pt", "--html", page, *options)
    assert found.exit_code == 1
    assert problem in found.output
    assert not page.exists()


def test_names_are_checked_before_any_process_is_started(
    model: nn.Module,
    batches: list[tuple[torch.Tensor]],
    plugins: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(MODULE, "Contender")
    with pytest.raises(UnknownNameError, match=r"unknown backend 'crashin'\. Did you mean"):
        compared(model, batches, plugins, "toy", "crashin")


class Interrupted(Here):
    """A process whose entry is awaited when Ctrl-C is pressed, if its backend is ``raising``."""

    def entry(self) -> Entry:
        if self._backend == "raising":
            raise KeyboardInterrupt
        return super().entry()


class Broken(Here):
    """A process whose entry cannot be received, if its backend is ``raising``."""

    def entry(self) -> Entry:
        if self._backend == "raising":
            raise OSError("out of memory")
        return super().entry()


@pytest.mark.parametrize("form", ["table", "json"])
def test_an_interrupt_keeps_the_finished_rows_on_screen_and_in_the_page(
    form: str,
    model: nn.Module,
    batches: list[tuple[torch.Tensor]],
    plugins: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODULE, "Contender", Interrupted)
    torch.export.save(torch.export.export(model, batches[0]), tmp_path / "net.pt2")
    torch.save(batches, tmp_path / "data.pt")
    files = (tmp_path / "net.pt2", "--calibration", tmp_path / "data.pt")
    page = tmp_path / "page.html"
    more = ("--json",) if form == "json" else ()
    stopped = run("compare", *files, "--backends", "toy,raising", "--html", page, *more)
    assert stopped.exit_code == 130
    assert f"rows finished, and not timed: float, toy, which are in {page}" in stopped.stderr
    if form == "json":
        entries = json.loads(stopped.stdout)["entries"]
        assert [each["backend"] for each in entries] == ["float", "toy"]
        assert entries[1]["sqnr_to_float"] > 20
    else:
        assert "toy: minmax" in stopped.stdout
    text = page.read_text(encoding="utf-8")
    assert "minmax" in text
    assert "raising" not in text


def test_an_exception_in_one_row_is_the_reason_in_that_row(
    model: nn.Module,
    batches: list[tuple[torch.Tensor]],
    plugins: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MODULE, "Contender", Broken)
    found = compared(model, batches, plugins, "raising", "toy")
    assert [each.works for each in found.entries] == [True, False, True]
    assert "out of memory" in (found.entries[1].failure or "")
    assert found.entries[2].milliseconds


@pytest.mark.usefixtures("here")
def test_entries_are_given_on_as_they_finish(
    model: nn.Module, batches: list[tuple[torch.Tensor]], plugins: Registry
) -> None:
    seen: list[list[str]] = []

    def note(found: Comparison) -> None:
        seen.append([each.backend for each in found.entries])

    compare(
        model,
        batches[0],
        backends=["toy", "raising"],
        calibration=batches,
        rounds=1,
        progress=False,
        registry=plugins,
        on_entry=note,
    )
    assert seen == [["float"], ["float", "toy"], ["float", "toy", "raising"]]


@pytest.mark.usefixtures("here")
def test_an_operator_to_keep_in_float_that_the_model_does_not_have_is_a_note_of_the_row(
    model: nn.Module, batches: list[tuple[torch.Tensor]], plugins: Registry
) -> None:
    kept = ["0", "aten.add.Tensor"]
    found = compare(
        model,
        batches[0],
        backends=["toy"],
        calibration=batches,
        rounds=1,
        keep_in_float=kept,
        progress=False,
        registry=plugins,
    )
    (toy,) = found.entries[1:]
    assert (toy.operators, toy.int8_operators) == (3, 1)
    notes = [note for note in toy.notes if "has no effect" in note]
    assert len(notes) == 1
    assert "'aten.add.Tensor'" in notes[0]
    assert "aten.linear.default, aten.relu.default" in notes[0]
    assert f"toy: {notes[0]}" in " ".join(str(found).split())


def test_nothing_to_compare_is_an_error(
    model: nn.Module, batches: list[tuple[torch.Tensor]], registry: Registry
) -> None:
    with pytest.raises(InputError, match="backends: there is none"):
        compared(model, batches, registry)
    with pytest.raises(InputError, match=r"backends: 'toy' is one string .*Write \['toy'\]"):
        compare(model, batches[0], backends="toy", calibration=batches, registry=registry)
    with pytest.raises(CalibrationError, match="no batch"):
        compare(model, batches[0], backends=["toy"], calibration=[], registry=registry)
    with pytest.raises(InputError, match="batch 1"):
        compared(model, [*batches[:1], (torch.zeros(3, 9),)], registry, "toy")


def test_a_config_for_a_backend_that_is_not_compared_is_an_error(
    model: nn.Module, batches: list[tuple[torch.Tensor]], registry: Registry
) -> None:
    with pytest.raises(UnknownNameError, match="backend to configure 'toi'"):
        compare(
            model,
            batches[0],
            backends=["toy"],
            configs={"toi": "histogram"},
            calibration=batches,
            registry=registry,
        )
