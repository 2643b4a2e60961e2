"""Dynamic inputs of linears are quantized for each row, wherever they come from."""

from __future__ import annotations

import torch
from torch import nn

import qreg


def test_the_output_of_a_static_linear_is_an_input_of_rows() -> None:
    """Between the two, convert inserts a quantize and a dequantize that have no meta value."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)).eval()
    batches = [(torch.randn(3, 8) * torch.tensor([[1e-2], [1], [30]]),) for _ in range(4)]
    quantizer = qreg.get_quantizer("xnnpack", "int8_dynamic_per_channel")
    quantizer.set_module_name("0", "int8_static_per_channel")
    result = qreg.quantize(
        model, batches[0], quantizer=quantizer, calibration=batches, min_sqnr=0, progress=False
    )
    called = [str(node.target) for node in result.converted.graph.nodes]
    rows = "quantized_decomposed.choose_qparams_per_token_asymmetric.default"
    assert called.count(rows) == 2
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 35
