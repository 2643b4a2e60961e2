"""A model with a recurrent layer, and what holds where a backend keeps such a layer whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qreg

LAYERS = [nn.GRU(8, 16), nn.LSTM(8, 16, num_layers=2)]


class Speech(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])  # type: ignore[no-any-return]


def check_kept_whole(layer: nn.RNNBase, backend: str, reason: str) -> None:
    """Check that the layer is one float operator, and that the linear after it runs in int8."""
    torch.manual_seed(0)
    data = [(torch.randn(4, 8, 8),) for _ in range(4)]
    model = Speech(layer).eval()
    result = qreg.quantize(model, data[0], backend=backend, calibration=data, progress=False)
    decisions = {each.operator: each for each in result.decisions}
    (name,) = (each for each in decisions if each.endswith(".input"))
    assert not decisions[name].quantized
    assert reason in decisions[name].reason
    assert decisions["aten.linear.default"].quantized
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) > 30
