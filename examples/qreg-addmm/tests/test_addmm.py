"""The installed example: its pattern is in the backend, and runs in int8 in the runtime."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

import qreg
from qreg.plugins.registry import installed
from qreg.testing import PluginConformance, Sample, annotate


class Conv1D(nn.Module):
    """GPT-2's linear layer: a weight of shape (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        scales = torch.linspace(0.1, 1.0, outputs)
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * scales)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight)


torch.manual_seed(0)


class TestAddmm(PluginConformance):
    plugin = "addmm"
    backend = "xnnpack"
    samples: ClassVar = {"addmm": Sample(Conv1D(16, 8), torch.randn(4, 16))}


def test_a_weight_that_is_computed_is_left_in_float() -> None:
    class Product(nn.Module):
        def forward(self, bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.addmm(bias, x, y)

    inputs = torch.randn(4), torch.randn(4, 4), torch.randn(4, 4)
    annotate(Product(), inputs).assert_float("addmm", because="its weight is not a constant")


@pytest.mark.parametrize(
    ("factors", "shape", "status"),
    [
        ({"alpha": 2}, (8,), "float"),  # a rule refuses factors
        ({"beta": 0.5}, (8,), "float"),
        ({}, (4, 8), "float"),  # the backend adds a matrix separately
        ({}, (1, 8), "annotated"),  # and turns these into one number for each column
        ({}, (1,), "annotated"),
    ],
)
def test_factors_and_biases_that_the_kernel_does_not_know_are_right(
    factors: dict[str, float], shape: tuple[int, ...], status: str
) -> None:
    class Scaled(Conv1D):
        def __init__(self) -> None:
            super().__init__(16, 8)
            self.bias = nn.Parameter(torch.randn(shape))
            self.last = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.addmm(self.bias, x, self.weight, **factors))

    batch = (torch.randn(4, 16),)
    result = qreg.quantize(Scaled().eval(), batch, calibration=[batch], progress=False)
    assert result.decisions[0].status == status
    assert result.audit is not None
    assert result.audit.defects == ()
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 30


@pytest.fixture(scope="module")
def result() -> qreg.Result:
    torch.manual_seed(0)
    batches = [(torch.randn(4, 16),) for _ in range(4)]
    return qreg.quantize(Conv1D(16, 8).eval(), batches[0], calibration=batches)


def test_the_distribution_is_named_as_the_supplier(result: qreg.Result) -> None:
    (decision,) = result.decisions
    assert (decision.status, decision.annotator) == ("annotated", "addmm")
    assert decision.distribution == "qreg-addmm"


def test_the_delegate_runs_it_as_the_converted_model_does(result: qreg.Result) -> None:
    assert result.lowered.delegates == 1
    assert result.lowered.outside == ()
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 40
    assert result.verification.to_float[0].sqnr > 30


def test_its_weight_is_quantized_along_the_output_channels(result: qreg.Result) -> None:
    per_channel = [n for n in result.converted.graph.nodes if "per_channel" in str(n.target)]
    (dequantize,) = per_channel
    scales = result.converted.get_buffer(str(dequantize.args[1].target))
    assert (scales.shape[0], dequantize.args[3]) == (8, 1)


def test_the_stock_annotators_are_still_there() -> None:
    names = [supplied.value.name for supplied in installed().annotators("xnnpack")]
    assert names.index("linear") < names.index("addmm")
