"""A recurrent layer stays whole and in float, with the reason, and the program is right."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qreg


class Speech(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("layer", [nn.GRU(8, 16), nn.LSTM(8, 16, num_layers=2)])
def test_the_layer_is_one_float_operator_and_the_linear_after_it_runs_in_int8(
    layer: nn.RNNBase,
) -> None:
    torch.manual_seed(0)
    data = [(torch.randn(4, 8, 8),) for _ in range(4)]
    model = Speech(layer).eval()
    result = qreg.quantize(model, data[0], backend="x86_inductor", calibration=data, progress=False)
    decisions = {each.operator: each for each in result.decisions}
    (name,) = (each for each in decisions if each.endswith(".input"))
    assert not decisions[name].quantized
    assert "a copy of weight_hh for each step" in decisions[name].reason
    assert decisions["aten.linear.default"].quantized
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) > 30
