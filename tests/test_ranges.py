"""Pins which ranges are said to leave few codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.ranges import Range

EPS = torch.finfo(torch.float32).eps  # of torchao's observers, which the toy backend has


def ranges(model: nn.Module, batch: Tensor, registry: Registry, **options: Any) -> list[Range]:
    result = qreg.quantize(
        model,
        batch,
        backend="toy",
        calibration=[batch],
        registry=registry,
        progress=False,
        verify=False,
        **options,
    )
    return list(result.ranges)


def linear(weight: float) -> nn.Linear:
    model = nn.Linear(4, 4)
    torch.manual_seed(0)
    model.weight.data = torch.randn(4, 4) * weight
    return model


def test_ordinary_ranges_are_of_no_concern(registry: Registry) -> None:
    assert ranges(linear(1.0), torch.randn(8, 4), registry) == []


def test_weights_below_the_smallest_scale_are_named(registry: Registry) -> None:
    (found,) = ranges(linear(EPS), torch.randn(8, 4), registry)
    assert (found.node, found.concern) == ("weight", "at the eps floor")
    assert (found.channels, found.concerned) == (1, 1)
    assert found.eps == pytest.approx(EPS)
    assert found.high == pytest.approx(float(linear(EPS).weight.max()), rel=1e-6)


def test_an_activation_that_never_changes_is_named(registry: Registry) -> None:
    (found,) = ranges(linear(1.0), torch.full((8, 4), 3.0), registry)
    assert (found.concern, found.low, found.high) == ("constant", 3.0, 3.0)


def test_a_scalar_of_the_model_is_no_constant_activation(registry: Registry) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = linear(1.0)
            self.one = nn.Buffer(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.one

    assert ranges(Scaled(), torch.randn(8, 4), registry) == []
