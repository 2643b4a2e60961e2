"""Pins sums and products with constant tensors, which the delegate gets wrong next to float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import qreg
from qreg_xnnpack.constant_operands import REASON

torch.manual_seed(0)
BATCHES = [(torch.randn(2, 8),) for _ in range(4)]


class Scaled(nn.Module):
    def __init__(self, shape: tuple[int, ...], combine: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 4)
        self.factor, self.combine = nn.Parameter(torch.randn(shape)), combine

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.combine(torch.sin(self.first(x)), self.factor))
        return found


@pytest.mark.parametrize(
    ("shape", "combine"),
    [((2, 8), torch.mul), ((8,), torch.mul), ((2, 8), torch.add), ((8,), torch.sub)],
)
def test_a_constant_tensor_behind_a_float_operator_stays_in_float_and_is_right(
    shape: tuple[int, ...], combine: Callable[[Any, Any], Any]
) -> None:
    model = Scaled(shape, combine).eval()
    result = qreg.quantize(model, BATCHES[0], calibration=BATCHES, progress=False)
    by_operator = {each.operator.split(".")[1]: each for each in result.decisions}
    assert by_operator[combine.__name__].reason == REASON
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 25
    assert result.verification.to_converted[0].sqnr > 40


def test_a_number_and_a_constant_behind_an_int8_operator_are_quantized() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.factor = nn.Linear(8, 8), nn.Parameter(torch.randn(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(self.linear(x) * self.factor) * 2

    result = qreg.quantize(Both().eval(), BATCHES[0], calibration=BATCHES, progress=False)
    assert [each.quantized for each in result.decisions] == [True, True, False, True]
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 40
