"""A model, data and the toy backend, installed for the time of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qreg.plugins.registry import installed

TOY = Path(__file__).parents[1] / "toy.py"


@pytest.fixture(autouse=True)
def toy_installed(distribution: Callable[..., Path]) -> Iterator[None]:
    distribution("qreg-toy", TOY.read_text(encoding="utf-8"), version="0.7")
    installed.cache_clear()
    yield
    installed.cache_clear()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    import torch
    from commands import batches
    from quantizing import Net

    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), batches()[0]), path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    import torch
    from commands import batches

    path = tmp_path / "data.pt"
    torch.save(batches(), path)
    return path


@pytest.fixture
def raw(tmp_path: Path) -> tuple[Path, Path]:
    """A model of raw features that its first layer normalises, and its data: all noise in int8."""
    import torch
    from commands import batches
    from torch import nn

    scales = torch.tensor([1e-3, 1.0, 1e3, 30.0])
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    net[0].weight.data /= scales
    data = [(scales * each,) for (each,) in batches()]
    torch.export.save(torch.export.export(net, data[0]), tmp_path / "raw.pt2")
    torch.save(data, tmp_path / "raw.pt")
    return tmp_path / "raw.pt2", tmp_path / "raw.pt"


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy backend's loader knows torchao's operators only where they were imported."""
    from qreg.verification.runner import run_program

    def here(*arguments: Any, timeout: float | None) -> Any:
        return run_program(*arguments)

    monkeypatch.setattr("qreg.verification.isolation.run_isolated", here)
