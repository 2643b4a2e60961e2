"""The installed example: its pattern is in the backend, and runs in int8 in the runtime."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

import qreg
from qreg.plugins.registry import installed
from qreg.testing import PluginConformance, Sample, annotate


class Product(nn.Module):
    """A product with a weight of shape (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        scales = torch.linspace(0.1, 1.0, outputs)
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * scales)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, self.weight)


torch.manual_seed(0)


class TestMm(PluginConformance):
    plugin = "mm"
    backend = "xnnpack"
    samples: ClassVar = {"mm": Sample(Product(16, 8), torch.randn(4, 16))}


def test_a_weight_that_is_computed_is_left_in_float() -> None:
    class Computed(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.mm(x, y)

    inputs = torch.randn(4, 4), torch.randn(4, 4)
    annotate(Computed(), inputs).assert_float("mm", because="its weight is not a constant")


@pytest.fixture(scope="module")
def result() -> qreg.Result:
    torch.manual_seed(0)
    batches = [(torch.randn(4, 16),) for _ in range(4)]
    return qreg.quantize(Product(16, 8).eval(), batches[0], calibration=batches)


def test_the_distribution_is_named_as_the_supplier(result: qreg.Result) -> None:
    (decision,) = result.decisions
    assert (decision.status, decision.annotator) == ("annotated", "mm")
    assert decision.distribution == "qreg-mm"


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
    assert names.index("linear") < names.index("mm")
