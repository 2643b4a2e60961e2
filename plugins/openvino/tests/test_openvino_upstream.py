"""A quantization moves upstream of maxima, padding and moves, and no number changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases_openvino import IMAGE, Between, Call, conv
from chains import Side
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.graph.nodes import called
from qreg.graph.operators import QUANTIZE
from qreg.programs.export import export
from qreg_openvino.upstream import move_quantizations_upstream

QPARAMS = 0.05, -100, -128, 127, torch.int8
PASSED: tuple[Any, ...] = (
    lambda x: F.max_pool2d(x, 3, 2, 1),
    lambda x: F.pad(x, (1, 2, 0, 1)),
    lambda x: F.pad(x.transpose(2, 3), (1, -1)),
    lambda x: F.pad(F.max_pool2d(x, 2), (1, 0, 0, 0, 1, 1)).flatten(1),
    lambda x: F.max_pool2d(x, 2).permute(0, 2, 1, 3).contiguous().view(4, 16),
)
KEPT: tuple[Any, ...] = (
    lambda x: F.pad(x, (1, 1), value=0.5),
    lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    lambda x: F.max_pool2d(x, 3, ceil_mode=True),
    lambda x: F.max_pool2d(x, 2).mul(-1),
    lambda x: x.transpose(2, 3),
)


class Quantized(nn.Module):
    """A relu, a function of it, and a quantization; ``read`` gives the relu too."""

    def __init__(self, function: Any, read: bool = False) -> None:
        super().__init__()
        self.function, self.read = function, read

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x.relu()
        packed = torch.ops.quantized_decomposed.quantize_per_tensor(self.function(y), *QPARAMS)
        z = torch.ops.quantized_decomposed.dequantize_per_tensor(packed, *QPARAMS)
        return (z, y) if self.read else (z,)


def moved(module: nn.Module, x: Tensor) -> tuple[str, Any]:
    """Return the operator that is quantized after the rewrite, and the outputs."""
    program = export(module.eval(), (x,))
    move_quantizations_upstream(program)
    (node,) = [each for each in program.graph.nodes if called(each) == QUANTIZE]
    return called(node.all_input_nodes[0]), program.module()(x)


@pytest.mark.parametrize("function", PASSED)
def test_the_numbers_are_the_same_bits(function: Any) -> None:
    module, x = Quantized(function), 8 * torch.randn(IMAGE)
    at, (found,) = moved(module, x)
    assert at == "aten.relu.default"
    assert torch.equal(found, module(x)[0])


@pytest.mark.parametrize("function", KEPT)
def test_it_stays_downstream_of_moves_and_of_what_it_does_not_commute_with(function: Any) -> None:
    assert moved(Quantized(function), torch.randn(IMAGE))[0] != "aten.relu.default"


def test_it_stays_downstream_of_a_value_with_another_reader() -> None:
    at, _ = moved(Quantized(PASSED[0], read=True), torch.randn(IMAGE))
    assert at == "aten.max_pool2d.default"


def test_a_scaled_convolution_is_pooled_and_padded_in_8_bits(quantized: Any) -> None:
    scaled = Call(lambda x: F.pad(F.max_pool2d(1.5 * x.relu() - 0.25, 2), (1, 2, 1, 1)))
    result = quantized(nn.Sequential(conv(), scaled, nn.Conv2d(4, 4, 3)), IMAGE)
    assert result.audit.placements["max_pool2d"].types == "u8 -> u8"
    assert [each.kind for each in result.lowered.conversions] == ["quantize"]
    assert not result.audit.defects
    assert result.verification.to_converted[0].sqnr > 40
    assert result.verification.to_float[0].sqnr > 25


def test_a_max_pool_in_front_of_a_transposed_convolution_is_in_8_bits(quantized: Any) -> None:
    layers = conv(), nn.ReLU6(), nn.MaxPool2d(2), nn.ConvTranspose2d(4, 4, 2, 2)
    result = quantized(nn.Sequential(*layers), IMAGE)
    assert result.audit.placements["max_pool2d"].types == "u8 -> u8"
    assert not result.audit.defects
    assert result.verification.to_converted[0].sqnr > 40
    assert result.verification.to_float[0].sqnr > 25


def test_the_runtime_computes_what_the_converted_model_does() -> None:
    torch.manual_seed(0)
    functions = [each for each in (*PASSED, *KEPT) if each(torch.randn(IMAGE)).dim() == 4]
    made = [Between(lambda x, f=each: f(1.5 * x.relu() - 0.25)) for each in functions[:2]]
    made += [
        nn.Sequential(conv(), Call(lambda x, f=each: f(x.tanh() - 0.5)), after)
        for each in functions
        for after in (nn.Conv2d(each(torch.randn(IMAGE)).shape[1], 4, 3, padding=1),)
    ]
    model = Side(made).eval()
    batches = [tuple(torch.randn(IMAGE) for _ in made) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_converted) > 40
    assert min(each.sqnr for each in result.verification.to_float) > 20
