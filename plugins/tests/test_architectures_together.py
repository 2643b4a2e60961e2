"""Architectures of transformers in the formats of ONNX Runtime and OpenVINO, static, in the sweep.

Those of XNNPACK are in ``plugins/xnnpack/tests/test_architectures.py``.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from architectures import ARCHITECTURES

import qreg
from qreg.plugins.registry import installed
from qreg.verification.metrics import compare


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_program_runs_and_is_as_close_to_float_as_its_model(name: str, backend: str) -> None:
    if backend not in installed().backends():
        pytest.skip(f"{backend} is not installed")
    make, batch = ARCHITECTURES[name]
    model, batches = make(), [batch() for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend=backend, progress=False)
    with torch.no_grad():
        wanted = torch.cat([model(*each).flatten() for each in batches])
        converted = torch.cat([result.converted(*each).flatten() for each in batches])
        found = torch.cat([result.run(*each).flatten() for each in batches])
    assert result.decided["annotated"]
    assert compare(wanted, found).sqnr >= max(15, compare(wanted, converted).sqnr - 3)
