"""A run with a work folder goes on from the last finished layer, and gives the same program."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from quantizing import WIDTHS, Deep, batches, quantize

import qreg
from qreg import Calibration, Candidate, Change, Registry
from qreg.algorithms import gptq, stock
from qreg.errors import InputError, WorkWarning
from qreg.pipeline import work
from qreg.tuning.fingerprints import of_graph
from qreg.utils import cache

TESTS = Path(__file__).parents[1]
LAYERS = len(WIDTHS) - 1
KILLED = """
import os, signal, sys
import toy
from qreg import Registry
from qreg.algorithms import gptq
from test_work import identity, quantized

rounding, count = gptq.rounding, 0

def counted(*given, **named):
    global count
    count += 1
    if count > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rounding(*given, **named)

gptq.rounding = counted
result = quantized(Registry({"toy": toy}, load=["toy", "algorithms"]), sys.argv[1])
sys.stdout.write(f"{count} {identity(result)}")
"""


def quantized(
    registry: Registry,
    folder: str | Path | None,
    model: type[torch.nn.Module] = Deep,
    data: Sequence[Any] | None = None,
    **more: Any,
) -> qreg.Result:
    options = {"algorithms": ["gptq"], "verify": False, "progress": False, **more}
    data = batches(8) if data is None else data
    return quantize(registry, model(), calibration=data, work=folder, **options)


def identity(result: qreg.Result) -> str:
    """Return a hash of the converted model; the files of the toy backend differ each time."""
    return of_graph(result.converted, "toy")


@pytest.fixture
def registry(toy: ModuleType) -> Registry:
    """The toy backend, and the algorithms of qreg as an installed plugin, whose code is known."""
    return Registry({"toy": toy}, load=["toy", "algorithms"])


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of columns of each layer that GPTQ rounds."""
    seen: list[int] = []
    rounding = gptq.rounding

    def noting(layer: Any, *given: Any, **named: Any) -> Any:
        seen.append(layer.weight.shape[-1])
        return rounding(layer, *given, **named)

    monkeypatch.setattr(gptq, "rounding", noting)
    return seen


def in_a_process(folder: Path, most: int) -> subprocess.CompletedProcess[str]:
    """Quantize in a process that is killed when it has rounded so many layers."""
    paths = [TESTS, TESTS / "pipeline", *sys.path]
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(most)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_that_was_killed_goes_on(registry: Registry, tmp_path: Path) -> None:
    killed = in_a_process(tmp_path / "work", 3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len([*(tmp_path / "work").iterdir()]) == 3
    finished = in_a_process(tmp_path / "work", LAYERS)
    count, found = finished.stdout.split()
    assert int(count) == LAYERS - 3, finished.stderr
    assert found == identity(quantized(registry, None))


def test_a_second_run_rounds_nothing(
    registry: Registry, rounded: list[int], tmp_path: Path
) -> None:
    first, *others = (identity(quantized(registry, each)) for each in (None, tmp_path, tmp_path))
    assert rounded == [*WIDTHS[:-1]] * 2
    assert others == [first, first]


class Other(Deep):
    def __init__(self) -> None:
        super().__init__()
        self.layers[0][0].bias.data += 1


@pytest.mark.parametrize(
    "more",
    [
        {"model": Other},
        {"data": batches(9)},
        {"algorithms": [{"name": "gptq", "damping": 0.02}]},
        {"config": "dynamic"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_differs_is_made_anew(
    registry: Registry, rounded: list[int], tmp_path: Path, more: dict[str, Any]
) -> None:
    quantized(registry, tmp_path)
    quantized(registry, tmp_path, **more)
    assert rounded == [*WIDTHS[:-1]] * 2


def test_a_damaged_entry_is_made_anew(
    registry: Registry, rounded: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = quantized(registry, tmp_path)
    damaged = min(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING, "qreg"):
        second = quantized(registry, tmp_path)
    assert len(rounded) == LAYERS + 1
    assert "is removed and made again" in caplog.text
    assert identity(second) == identity(first)


def test_a_full_disk_costs_what_is_kept_alone(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "write_atomically", full)
    with pytest.warns(WorkWarning, match="No space left on device.* The run goes on"):
        result = quantized(registry, tmp_path)
    assert identity(result) == identity(quantized(registry, None))


def test_a_folder_that_cannot_be_written_is_an_error_ahead_of_any_work(
    registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"it cannot be written.*Name another folder"):
        quantized(registry, tmp_path / "file", data=[])


def test_the_folder_has_a_size(registry: Registry, tmp_path: Path) -> None:
    for damping in (0.01, 0.02, 0.03):
        quantized(registry, tmp_path, algorithms=[stock.gptq(damping)])
    entries = [*tmp_path.iterdir()]
    assert len(entries) == 3 * LAYERS
    size = sum(each.stat().st_size for each in entries)
    small = evolve(work.work_folder(tmp_path, 0), most=size // 2)
    small.put("another", {}, b"")
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= size // 2
    assert work.work_folder(tmp_path, 2**30).most == 2**32


def test_random_numbers_do_not_depend_on_other_layers(registry: Registry) -> None:
    drawn: list[float] = []

    def run(candidate: Candidate, calibration: Calibration) -> list[Change]:
        def make() -> Change:
            drawn.append(float(torch.rand(())))
            return Change("linear", range=(torch.tensor(-1.0), torch.tensor(1.0)))

        for name in ("linear", "linear_1"):
            calibration.once(name, make)
        return []

    quantized(registry, None, algorithms=[qreg.Algorithm("mine", "prepared", "", run)])
    assert drawn[0] == drawn[1]
