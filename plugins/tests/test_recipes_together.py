"""A recipe gives the same bytes in another process, on each backend that writes its own format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import qreg
from qreg.plugins.registry import installed

# The tests of the XNNPACK plugin have it for XNNPACK. Inductor writes machine code of a compiler.
HERE = [name for name in ("onnxruntime", "openvino") if name in installed().backends()]


SLOW = {"onnxruntime"}


@pytest.mark.parametrize(
    "backend", [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in HERE]
)
def test_the_command_makes_the_same_program_in_another_process(
    backend: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    batches = [(torch.randn(1, 3, 8, 8),) for _ in range(4)]
    program = torch.export.export(model, batches[0])
    torch.export.save(program, tmp_path / "model.pt2")
    result = qreg.quantize(
        program, backend=backend, calibration=batches, algorithms="auto", progress=False
    )
    result.recipe.save(tmp_path / "recipe.toml")
    command = [sys.executable, "-m", "qreg", "quantize", "model.pt2", "--recipe", "recipe.toml"]
    output = tmp_path / f"program{result.target.backend.suffix}"
    done = subprocess.run(
        [*command, "-o", str(output)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result.save(tmp_path / f"expected{output.suffix}")
    for each in tmp_path.glob("expected.*"):
        assert each.read_bytes() == output.with_suffix(each.suffix).read_bytes(), each.suffix
