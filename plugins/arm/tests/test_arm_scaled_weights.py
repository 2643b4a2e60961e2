"""A factor downstream of a convolution is folded into a copy of its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg

IMAGE = (1, 4, 8, 8)
FACTORS = {
    "a number": lambda y: y * 3,
    "in place": lambda y: y.mul_(3.0),
    "by channel": lambda y: y * torch.tensor([1.0, 2.0, -1.0, 0.5]).view(4, 1, 1),
}


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("bias", [True, False])
def test_the_callers_model_stays_as_it_is(factor: str, bias: bool, quantized: Any) -> None:
    layer = nn.Conv2d(4, 4, 3, bias=bias)

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(FACTORS[factor](self.conv(x)))

    before = [each.detach().clone() for each in layer.parameters()]
    result = quantized(Scaled(), IMAGE)
    assert all(map(torch.equal, layer.parameters(), before))
    assert result.verification.to_float[0].sqnr > 25


def test_other_calls_of_the_same_layer_are_not_scaled(quantized: Any) -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return torch.relu(self.conv(x) * 3), torch.relu(self.conv(x + 1))

    result: qreg.Result = quantized(Twice(), IMAGE)
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) > 25
