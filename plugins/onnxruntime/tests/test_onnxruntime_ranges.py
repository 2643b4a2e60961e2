"""Ranges that ONNX Runtime does not compute with: the program runs and is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx.parser
import pytest
import torch
from cases_onnxruntime import IMAGE, Between
from torch import Tensor
from torch.nn import functional

from qreg_onnxruntime.separate_ranges import with_separate_ranges

NEVER_POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: functional.relu(x.mean((2, 3), keepdim=True)),
    "adaptive pool": lambda x: functional.relu(functional.adaptive_avg_pool2d(x, 1)),
    "mean and a view": lambda x: functional.relu(x.mean((2, 3)).view(1, 4, 1, 1)),
    "leaky relu": lambda x: functional.relu(functional.leaky_relu(x, 0.1)),
    "max pool": lambda x: functional.relu(functional.max_pool2d(x, 2)),
    "transpose": lambda x: functional.relu6(x.transpose(2, 3)),
}


TWO_READERS = """<ir_version: 10, opset_import: ["": 21]>
two_readers (float[4] x) => (uint8[4] first, uint8[4] second)
<float step = {0.01}, float wide = {0.02}, uint8 least = {0}, uint8 greatest = {255}> {
    code = QuantizeLinear (x, step, least)
    value = DequantizeLinear (code, step, least)
    first = QuantizeLinear (value, step, greatest)
    second = QuantizeLinear (value, wide, greatest)
}"""


def with_bias(function: Callable[[Tensor], Tensor], bias: float) -> Between:
    torch.manual_seed(0)
    module = Between(function)
    torch.nn.init.constant_(module.before[0].bias, bias)
    return module


def operators(program: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(program).graph.node]


@pytest.mark.parametrize("name", NEVER_POSITIVE)
def test_a_relu_that_gave_zero_alone_in_calibration_gives_what_the_converted_model_gives(
    quantized: Any, name: str
) -> None:
    result = quantized(with_bias(NEVER_POSITIVE[name], -5.0), IMAGE)
    for factor in (1.0, 30.0):  # 30: values beyond the calibrated ranges, which saturate
        images = factor * torch.randn(IMAGE)
        expected = result.converted(images)
        step = 0.02 * float(expected.abs().max())
        torch.testing.assert_close(result.run(images), expected, rtol=0, atol=step)


def test_two_quantizations_of_a_value_share_a_barrier() -> None:
    model = onnx.parser.parse_model(TWO_READERS)
    for node in model.graph.node:
        node.name = node.output[0]
    with_separate_ranges(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node].count("Max") == 1


def test_ranges_that_overlap_leave_the_integer_kernels_as_they_are(quantized: Any) -> None:
    result = quantized(with_bias(NEVER_POSITIVE["mean"], 0.0), IMAGE)
    assert "Max" not in operators(result.program)
    assert result.report.counts == {"int8": 4}


@pytest.mark.parametrize("size", [1, 4, 8])
def test_a_mean_that_is_far_smaller_than_its_values_runs(quantized: Any, size: int) -> None:
    def mean(x: Tensor, opposite: Tensor) -> Tensor:
        both = torch.cat([x, opposite], 3)[:, :, :size]
        return both.mean((2, 3), keepdim=True)

    module = Between(mean, branches=2)
    for branch, factor in zip(module.before, (1e5, -1e5), strict=True):
        torch.nn.init.constant_(branch.weight, factor)
        torch.nn.init.zeros_(branch.bias)
    result = quantized(module, IMAGE)
    assert "GlobalAveragePool" not in operators(result.program)
