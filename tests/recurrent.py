"""A model with recurrent layers, and what holds where a backend keeps such layers whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qreg


class Speech(nn.Module):
    """Recurrent layers side by side, each with a linear downstream."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.GRU(8, 16), nn.LSTM(8, 16, num_layers=2)])
        self.heads = nn.ModuleList(nn.Linear(16, 3) for _ in self.layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        pairs = zip(self.layers, self.heads, strict=True)
        return [head(layer(x)[0]) for layer, head in pairs]


def check_kept_whole(backend: str, reason: str) -> None:
    """Check that each layer is one float operator, and that the linears run in int8."""
    torch.manual_seed(0)
    data = [(torch.randn(4, 8, 8),) for _ in range(4)]
    model = Speech().eval()
    result = qreg.quantize(model, data[0], backend=backend, calibration=data, progress=False)
    layers = [each for each in result.decisions if each.module.startswith("layers.")]
    assert [each.operator for each in layers] == ["aten.gru.input", "aten.lstm.input"]
    assert not any(each.quantized for each in layers)
    assert all(reason in each.reason for each in layers)
    linears = [each for each in result.decisions if each.operator == "aten.linear.default"]
    assert [each.quantized for each in linears] == [True, True]
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) > 30
