"""Programs are right where the plugin would compile a snippet that is wrong."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import openvino
import pytest
import torch
from chains import Side
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.plugins.registry import installed
from qreg_openvino.compat import layer
from qreg_openvino.container import GRAPH, WEIGHTS, split

WIDTHS = (8, 16, 8), (1, 1, 4), (24, 8, 10), (4, 2, 3, 8), (16, 48, 8)
ACTIVATIONS = nn.ReLU(), nn.Tanh(), nn.LeakyReLU(), nn.Softmax(-1), nn.Hardswish()
ROWS = 1, 4, 7, 8


def layers(widths: tuple[int, ...], activation: nn.Module, bias: float | None) -> nn.Module:
    made: list[nn.Module] = []
    for one, other in pairwise(widths):
        linear = nn.Linear(one, other, bias=bias is not None)
        if bias:
            nn.init.constant_(linear.bias, bias)
        made += [linear, activation]
    return nn.Sequential(*made[:-1])


class Attention(nn.Module):
    """Attention with as many heads as tokens, and a product of its output."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.size, width = size, 4 * size
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        heads = [self.heads(each) for each in self.inner(x).chunk(3, -1)]
        mixed = F.scaled_dot_product_attention(*heads)
        return self.outer((1.5 * mixed.transpose(1, 2)).reshape(x.shape))

    def heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.size, -1).transpose(1, 2)


def models() -> tuple[Side, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    made, inputs = [], []
    for number, (widths, activation) in enumerate(zip(WIDTHS, ACTIVATIONS, strict=True)):
        for bias in (0.5, None):
            made.append(layers(widths, activation, bias))
            inputs.append(torch.randn(ROWS[number % len(ROWS)], widths[0]))
    made += [Attention(), Attention(2)]
    inputs += [torch.randn(1, 4, 16), torch.randn(2, 2, 8)]
    return Side(made).eval(), tuple(inputs)


def test_float_programs_are_right() -> None:
    model, inputs = models()
    lowered = qreg.lower(model, inputs, backend="openvino")
    found = installed().backend("openvino").value.load(lowered.program)(list(inputs))
    with torch.no_grad():
        torch.testing.assert_close(tuple(found), model(*inputs), rtol=1e-4, atol=1e-5)


def test_int8_programs_are_right_and_as_without_snippets() -> None:
    model, inputs = models()
    batches = [inputs, *(tuple(map(torch.randn_like, inputs)) for _ in range(3))]
    result = qreg.quantize(model, inputs, calibration=batches, backend="openvino")
    assert not result.audit.defects
    assert min(each.sqnr for each in result.verification.to_converted) > 30
    files = split(result.program)
    read = openvino.Core().read_model(files[GRAPH], files[WEIGHTS])
    hints = {"INFERENCE_PRECISION_HINT": "f32", "SNIPPETS_MODE": "DISABLE"}
    plain = openvino.Core().compile_model(read, "CPU", hints)([each.numpy() for each in inputs])
    found = result.target.loader(result.program)(list(inputs))
    for value, port in zip(found, plain, strict=True):
        torch.testing.assert_close(value, torch.tensor(plain[port]), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_each_layer_has_a_kernel(rows: int, quantized: Any) -> None:
    result = quantized(layers((16, 24, 24, 8), nn.ReLU(), 0.5), (rows, 16))
    files = split(result.program)
    read = openvino.Core().read_model(files[GRAPH], files[WEIGHTS])
    kernels = openvino.Core().compile_model(read, "CPU").get_runtime_model().get_ordered_ops()
    assert [layer(each)["layerType"] for each in kernels].count("FullyConnected") == 3


def test_a_quantization_in_a_snippet_is_a_conversion(quantized: Any) -> None:
    result = quantized(nn.Linear(16, 8), (4, 16))
    assert [each.kind for each in result.lowered.conversions] == ["quantize"]
