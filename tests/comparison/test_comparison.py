"""Pins the comparison of backends: one row each, whatever becomes of it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from qreg import compare
from qreg.cli.main import main
from qreg.comparison import Comparison, Entry
from qreg.comparison.bars import panels
from qreg.comparison.contender import Contender
from qreg.comparison.text import rows
from qreg.errors import CalibrationError, InputError, UnknownNameError
from qreg.plugins.registry import Registry

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


def compared(
    model: nn.Module, batches: list[tuple[torch.Tensor]], registry: Registry, *names: str
) -> Comparison:
    return compare(
        model,
        batches[0],
        backends=names,
        calibration=batches,
        rounds=3,
        progress=False,
        registry=registry,
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


class Interrupted(Contender):
    """A process whose entry is awaited when Ctrl-C is pressed, if its backend is ``raising``."""

    def entry(self) -> Entry:
        if self._backend == "raising":
            raise KeyboardInterrupt
        return super().entry()


class Broken(Contender):
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
    with pytest.raises(InputError, match="no backend to compare"):
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
    with pytest.raises(UnknownNameError, match="backend to compare 'toi'"):
        compare(
            model,
            batches[0],
            backends=["toy"],
            configs={"toi": "histogram"},
            calibration=batches,
            registry=registry,
        )


def test_what_was_not_run_says_so_and_why() -> None:
    entries = (
        Entry("compiling", bytes=10, operators=2, int8_operators=2, int8_share=1.0),
        Entry("simulated", sqnr_to_float=40.0, notes=("its runtime is a simulator",)),
        Entry("failing", failure="<b>no</b> [bold]such[/bold] kernel"),
    )
    found = Comparison("Net", rounds=5, threads=None, entries=entries)
    text = str(found)
    assert "not run here" in text
    assert "simulated: its runtime is a simulator" in text
    assert "failing: <b>no</b> [bold]such[/bold] kernel" in text
    assert "as many threads as each runtime chooses" in text


def test_programs_are_compared_with_the_float_model_in_words(tmp_path: Path) -> None:
    entries = (
        Entry("float", bytes=2800, milliseconds=1.0),
        Entry("fast", bytes=1000, milliseconds=0.5),
        Entry("slow", bytes=2800, milliseconds=1.15),
    )
    found = Comparison("Net", rounds=5, threads=1, entries=entries)
    found.save_html(tmp_path / "page.html")
    for text in (str(found), (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert (
            "fast: 2.0 times faster than float in torch, "
            "2.8 times smaller than the float parameters"
        ) in text
        assert ("slow: 15 % slower than float in torch, as large as the float parameters") in text


def test_what_comes_from_a_model_is_not_part_of_the_code_of_the_page(tmp_path: Path) -> None:
    entry = Entry("<script>alert(1)</script>", failure="<img src=x onerror=alert(2)>")
    good = Entry("<script>alert(3)</script>", milliseconds=1.0, bytes=1)
    Comparison("</title><script>", 1, 1, (entry, good)).save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "</title><script>" not in page


def test_a_row_has_the_verdict_on_its_program() -> None:
    entries = (
        Entry("near", sqnr_to_float=40.0, verdict="good"),
        Entry("far", sqnr_to_float=3.0, verdict="poor", notes=("output 0 is 3.0 dB",)),
    )
    found = Comparison("Net", 5, 1, entries)
    listed = {row["backend"]: (row["SQNR to float"], row["verdict"]) for row in rows(found)}
    assert listed == {"near": ("40.0 dB", "good"), "far": ("3.0 dB", "poor")}
    assert "far: output 0 is 3.0 dB" in str(found)
    assert [each["verdict"] for each in found.as_dict()["entries"]] == ["good", "poor"]


def test_bars_are_as_long_as_the_ratio_and_begin_at_zero() -> None:
    entries = (
        Entry("float", milliseconds=40.0),
        Entry("fast", milliseconds=10.0, sqnr_to_float=30.0, int8_share=0.25),
        Entry("poor", milliseconds=20.0, sqnr_to_float=-10.0, int8_share=0.5),
        Entry("failing", failure="no such kernel"),
    )
    found = {panel.title: panel for panel in panels(Comparison("Net", 5, 1, entries))}
    latency = found["Latency"]
    assert [(bar.backend, bar.start, bar.length) for bar in latency.bars] == [
        ("float", 0, 100),
        ("fast", 0, 25),
        ("poor", 0, 50),
    ]
    assert [bar.plain for bar in latency.bars] == [True, False, False]
    sqnr = found["SQNR to float"]
    assert sqnr.zero == 25  # of -10 to 30 dB
    assert [(bar.start, bar.length) for bar in sqnr.bars] == [(25, 0), (25, 75), (0, 25)]
    shares = found["Multiply-accumulates in int8"]
    assert [bar.length for bar in shares.bars] == [0, 25, 50]  # of all, not of the largest


def test_a_bar_without_a_finite_value_has_words() -> None:
    values = (None, math.inf, -math.inf, math.nan, 20.0)
    entries = tuple(Entry(f"b{at}", sqnr_to_float=value) for at, value in enumerate(values))
    (panel,) = panels(Comparison("Net", 5, 1, entries))  # none for what nobody measured
    assert [bar.length for bar in panel.bars] == [0, 100, 0, 0, 100]
    assert [bar.text for bar in panel.bars[:2]] == ["—", "equal"]
    for other, expected in ((math.inf, [100, 100]), (0.0, [100, 0]), (-10.0, [50, 50])):
        pair = (Entry("a", sqnr_to_float=math.inf), Entry("b", sqnr_to_float=other))
        (panel,) = panels(Comparison("Net", 5, 1, pair))
        assert [bar.length for bar in panel.bars] == expected


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    entries = (Entry("float", milliseconds=1.0, bytes=9), Entry("failing", failure="no kernel"))
    Comparison("Net", 5, 1, entries).save_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|@import|url\(|\ssrc=|\son\w+=", page)
    assert "default-src 'none'" in page
    assert len(page) < 50_000
    Comparison("Net", 5, 1, ()).save_html(tmp_path / "page.html")  # a page for nothing too
