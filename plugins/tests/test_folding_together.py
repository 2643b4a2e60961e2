"""Every backend: norms that cannot be a part of a layer, and cross attention, close to float."""

from __future__ import annotations

import pytest
import torch
from cases_folding import NORMS, Call, Together, with_statistics
from torch import nn

import qreg
from qreg.plugins.registry import installed

STOCK = ("xnnpack", "onnxruntime", "openvino", "x86_inductor", "arm")
HERE = [name for name in STOCK if name in installed().backends()]
PLACES = ("a convolution that others read", "a norm after relu")


@pytest.mark.parametrize("backend", HERE)
def test_folded_models_are_close_to_float(backend: str) -> None:
    cases = [NORMS[name] for name in PLACES]
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    modules = [
        *(with_statistics(make()) for make, _, _ in cases),
        Call(lambda m, q, k: m.attention(q, k, k)[0], attention=attention),
    ]
    shapes = [*(each for _, each, _ in cases), ((1, 3, 16), (1, 5, 16))]
    together = Together(modules, [len(each) for each in shapes]).eval()
    torch.manual_seed(0)
    batches = [tuple(torch.randn(each) for flat in shapes for each in flat) for _ in range(4)]
    result = qreg.quantize(
        together, batches[0], backend=backend, calibration=batches, progress=False
    )
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) >= 30
