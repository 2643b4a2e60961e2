"""Quantization parameters and programs against a calculation by hand."""

from __future__ import annotations

import torch
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

import qreg

WEIGHT = torch.tensor([[1.27, -0.5, 0.0], [0.1, -2.54, 2.0]])
BIAS = torch.tensor([0.5, -0.25])
INPUT = torch.tensor([[2.0, -1.0, 0.5], [1.0, 0.25, 4.1]])


def layer() -> nn.Linear:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(WEIGHT)
        linear.bias.copy_(BIAS)
    return linear.eval()


def calls(graph: torch.fx.Graph, name: str) -> list[torch.fx.Node]:
    return [node for node in graph.nodes if name in str(node.target)]


def test_weights_are_symmetric_per_output_channel() -> None:
    """A row has the scale max|w| / ((127 + 127) / 2), the zero point 0, the values round(w / s)."""
    quantizer = qreg.get_quantizer("xnnpack")
    prepared = prepare_pt2e(torch.export.export(layer(), (INPUT,)).module(), quantizer)
    prepared(INPUT)
    converted = convert_pt2e(prepared)
    (dequantize,) = calls(converted.graph, "dequantize_per_channel")
    codes, scales, zeros = (getattr(converted, str(dequantize.args[i].target)) for i in range(3))
    torch.testing.assert_close(scales.float(), torch.tensor([0.01, 0.02]))
    assert zeros.tolist() == [0, 0]
    assert codes.tolist() == [[127, -50, 0], [5, -127, 100]]


def test_a_program_computes_what_the_int8_arithmetic_says() -> None:
    """y = s_x s_w (q_x - z_x) q_w + b, requantized, from the parameters of the converted model."""
    result = qreg.quantize(layer(), (INPUT,), calibration=[(INPUT,)])
    quantize_in, quantize_out = calls(result.converted.graph, "quantize_per_tensor.default")[::2]
    scale_in, zero_in = quantize_in.args[1:3]
    scale_out, zero_out = quantize_out.args[1:3]
    x = torch.clamp(torch.round(INPUT / scale_in) + zero_in, -128, 127) - zero_in
    scales = torch.tensor([0.01, 0.02])
    w = torch.round(WEIGHT / scales[:, None])
    accumulator = x @ w.T + torch.round(BIAS / (scale_in * scales))
    y = torch.clamp(torch.round(accumulator * scale_in * scales / scale_out) + zero_out, -128, 127)
    expected = (y - zero_out) * scale_out
    (got,) = (
        qreg.plugins.registry.installed().backend("xnnpack").value.load(result.program)([INPUT])
    )
    torch.testing.assert_close(got, expected)


def test_activations_are_affine_and_hold_zero() -> None:
    """Of values from 0 to 2.55 the scale is 2.55 / 255 and the zero point -128, within a bin."""
    values = torch.linspace(0, 2.55, 256 * 4).reshape(-1, 4)
    result = qreg.quantize(nn.Linear(4, 2).eval(), (values,), calibration=[(values,)])
    quantize = calls(result.converted.graph, "quantize_per_tensor.default")[0]
    scale, zero_point = quantize.args[1:3]
    assert abs(scale - 0.01) < 0.01 * 0.01
    assert zero_point == -128
