"""Pins scales and zero points against numbers worked out by hand.

Affine int8: ``scale = (max - min) / 255`` over a range that holds zero, and
``zero_point = -128 - round(min / scale)``. Symmetric int8 in [-127, 127]: ``scale = max(abs(w)) /
127``, zero point 0. All values are multiples of powers of two, so every number here is exact.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry

WEIGHT = torch.tensor([[127 / 64, -1.0], [0.5, 0.25]])
X = torch.tensor([[-1.0, 191 / 64]])  # from -1 to 2.984375: 255 steps of 1 / 64


class Scaled(nn.Module):
    """A linear of known weights."""

    def __init__(self, weight: Tensor = WEIGHT) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight = nn.Parameter(weight.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def quantized(registry: Registry, *batches: Tensor, model: nn.Module | None = None) -> qreg.Result:
    return qreg.quantize(
        model or Scaled(),
        batches[0],
        backend="toy",
        config="minmax",
        calibration=list(batches),
        registry=registry,
    )


def parameters(result: qreg.Result, kind: str = ".quantize_per_tensor") -> list[tuple[Any, ...]]:
    """Scale, zero point and bounds of each quantization, in graph order."""
    nodes = result.converted.graph.nodes
    return [node.args[1:5] for node in nodes if kind in str(node.target)]


def test_the_range_of_an_input_gives_its_scale_and_zero_point(registry: Registry) -> None:
    entering, _ = parameters(quantized(registry, X))
    assert entering == (1 / 64, -128 + 64, -128, 127)


@pytest.mark.parametrize(
    ("lowest", "highest", "scale", "zero_point"),
    [
        (0.5, 255 / 128, 1 / 128, -128),  # zero is taken into a range above it
        (-255 / 128, -0.5, 1 / 128, 127),  # and into one below it
        (-127.5, 127.5, 1.0, 0),  # -128 + 127.5, rounded to even
        (0.0, 255.0, 1.0, -128),
    ],
)
def test_zero_is_always_in_range(
    lowest: float, highest: float, scale: float, zero_point: int, registry: Registry
) -> None:
    entering, _ = parameters(quantized(registry, torch.tensor([[lowest, highest]])))
    assert entering == (scale, zero_point, -128, 127)


def test_the_range_is_that_of_all_batches(registry: Registry) -> None:
    low, high = torch.tensor([[-1.0, 0.0]]), torch.tensor([[0.5, 191 / 64]])
    entering, _ = parameters(quantized(registry, low, high))
    assert entering == (1 / 64, -64, -128, 127)


def test_the_output_has_parameters_of_its_own(registry: Registry) -> None:
    diagonal = Scaled(torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    _, leaving = parameters(quantized(registry, X, model=diagonal))
    assert leaving == (1 / 32, -64, -128, 127)


def test_the_weight_is_symmetric_around_zero(registry: Registry) -> None:
    assert (1 / 64, 0, -127, 127) in parameters(quantized(registry, X), ".dequantize_per_tensor")


def test_the_weight_is_stored_as_integers(registry: Registry) -> None:
    converted = quantized(registry, X).converted
    (stored,) = (tensor for tensor in converted.buffers() if tensor.dtype == torch.int8)
    assert stored.tolist() == [[127, -64], [32, 16]]


def test_the_program_computes_with_the_rounded_values(registry: Registry) -> None:
    # Input and weight are exact, and so is the product; only the output is rounded.
    result = quantized(registry, X)
    _, (scale, zero_point, lowest, highest) = parameters(result)
    exact = X @ WEIGHT.T
    steps = torch.clamp(torch.round(exact / scale) + zero_point, lowest, highest)
    assert torch.equal(result.converted(X), (steps - zero_point) * scale)
