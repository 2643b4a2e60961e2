"""The code in the README and the docs runs as it stands."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qreg

ROOT = Path(__file__).parents[3]


def run_blocks(path: Path, namespace: dict[str, Any]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    assert blocks, f"{path} has no code"
    for block in blocks:
        exec(compile(block, str(path), "exec"), namespace)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_readme_quantizes_a_model(tmp_path: Path) -> None:
    model, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 8, 8)
    run_blocks(ROOT / "README.md", {"model": model, "image": image, "batches": [(image,)]})
    assert (tmp_path / "model.pte").stat().st_size > 0


def test_the_guide_to_quantizing_runs(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {}
    run_blocks(ROOT / "docs" / "quantize.md", namespace)
    floats = {d.module for d in namespace["result"].decisions if d.status == "float"}
    assert "0" in floats
    assert (tmp_path / "model.pte").stat().st_size > 0


def test_the_guide_to_plugins_makes_a_working_annotator() -> None:
    plugin = types.ModuleType("documented")
    run_blocks(ROOT / "docs" / "plugins.md", vars(plugin))
    registry = qreg.Registry({"documented": plugin, "xnnpack": _stock()}, entry_points=False)

    class Conv1D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 8))
            self.bias = nn.Parameter(torch.randn(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.addmm(self.bias, x, self.weight)

    x = torch.randn(2, 4)
    result = qreg.quantize(Conv1D(), (x,), calibration=[(x,)], registry=registry)
    assert [decision.annotator for decision in result.decisions] == ["addmm"]
    assert result.verification.to_converted[0].sqnr > 40


def _stock() -> types.ModuleType:
    from qreg_xnnpack import plugin

    return plugin
