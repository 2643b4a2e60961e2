"""Weights that cannot be quantized are reported ahead of any work, with what to pass instead."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchao.quantization import (
    Int8DynamicActivationIntxWeightConfig,
    Int8WeightOnlyConfig,
    quantize_,
)

import qreg
from qreg.errors import InputError


def quantized(registry: qreg.Registry, model: nn.Module, x: torch.Tensor) -> qreg.Result:
    fixed = {"backend": "toy", "registry": registry, "progress": False}
    return qreg.quantize(model, (x,), calibration=[(x,)], **fixed)


@pytest.mark.parametrize(
    "config", [Int8WeightOnlyConfig(), Int8DynamicActivationIntxWeightConfig()]
)
def test_weights_of_quantize_are_quantized_already(registry: qreg.Registry, config: object) -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(64, 64))
    quantize_(model, config)
    with pytest.raises(InputError, match=r"weight '1.weight' is a Int.*Tensor, which is quantized"):
        quantized(registry, model, torch.ones(1, 64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_weights_of_half_precision_name_the_way(
    registry: qreg.Registry, dtype: torch.dtype, given: torch.dtype
) -> None:
    model = nn.Linear(4, 4).to(dtype)
    with pytest.raises(
        InputError, match=r"weights are in b?float16, such as 'weight'.*\.float\(\)"
    ):
        quantized(registry, model, torch.ones(1, 4, dtype=given))


def test_weights_of_half_precision_beside_others_stay_in_float(registry: qreg.Registry) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.other(self.one(x).bfloat16()).float()

    result = quantized(registry, Mixed().eval(), torch.ones(1, 4))
    assert {each.module: each.quantized for each in result.decisions if "linear" in each.node} == {
        "one": True,
        "other": False,
    }
