"""Pins which ranges are reported as using few quantized values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry
from qreg.analysis.ranges import Range, concerns
from qreg.annotators.annotate import shared_in_and_out
from qreg.annotators.patterns import listed

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


class Joined(nn.Module):
    """Two inputs joined, the second small beside the first; then a linear, which computes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 2)

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        return self.fc(torch.cat([large, small], -1))


@pytest.mark.parametrize(
    ("factor", "starved"),
    [pytest.param(1.0, [], id="alike"), pytest.param(0.01, [4], id="a hundredth")],
)
def test_an_input_that_shared_parameters_starve_is_named(
    toy: Any, factor: float, starved: list[int]
) -> None:
    large = torch.linspace(-1, 1, 32).reshape(8, 4)
    small = large * factor  # of 256 values in 2, 0.02 gets 3.55: the ends are 2.55 steps apart
    cat = qreg.Annotator("cat", ["aten.cat.default"], listed(), annotate=shared_in_and_out)
    extra = toy.Extension(annotators=[cat])
    registry = Registry({"toy": toy, "cats": extra}, entry_points=False)
    result = qreg.quantize(
        Joined(),
        (large, small),
        backend="toy",
        calibration=[(large, small)],
        registry=registry,
        progress=False,
        verify=False,
    )
    assert [each.values for each in result.ranges] == starved
    assert [(each.node, each.concern) for each in result.ranges] == [
        ("small", "starved by shared parameters") for _ in starved
    ]


def test_a_joined_input_without_elements_is_no_concern(toy: Any) -> None:
    cat = qreg.Annotator("cat", ["aten.cat.default"], listed(), annotate=shared_in_and_out)
    registry = Registry({"toy": toy, "cats": toy.Extension(annotators=[cat])}, entry_points=False)
    batch = torch.linspace(-1, 1, 64).reshape(8, 8), torch.empty(8, 0)
    prepared = qreg.prepare(Joined(), qreg.get_quantizer("toy", registry=registry), batch)
    qreg.calibrate(prepared, [batch], progress=False)
    assert concerns(prepared, [batch]) == []
