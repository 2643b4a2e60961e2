"""Linear layers with 8-bit and 4-bit weights and float activations, against a hand calculation."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import pytest
import torch
from cases_openvino import Times
from torch import Tensor, nn

import qreg
from qreg.configs.factory import INT4
from qreg.configs.weights import weight_config
from qreg_openvino.compat import layer
from qreg_openvino.container import GRAPH, WEIGHTS, split
from qreg_openvino.runtime import compiled_model

COLUMNS, ROWS = 256, 48
CONFIGS = {
    "int8_weight_per_channel": (8, COLUMNS),
    "int4_weight_groupwise": (4, 32),
    "int4_weight_groupwise_128": (4, 128),
}


def quantize(model: nn.Module, x: Tensor, **options: Any) -> qreg.Result:
    return qreg.quantize(model.eval(), (x,), backend="openvino", progress=False, **options)


def codes_and_steps(weight: Tensor, bits: int, size: int) -> tuple[Tensor, Tensor]:
    """Return both in the shape (rows, groups, columns of a group), or 1 for the last."""
    groups = weight.detach().reshape(len(weight), -1, size)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    step = largest.abs() / 127 if bits == 8 else largest / -8
    if bits == 4 and step.abs().min() >= 2**-14:  # the least normal number of float16
        step = step.half().float()
    low, high = (-127, 127) if bits == 8 else (-8, 7)
    return (groups * (1 / step)).round().clamp(low, high), step


def rounded(weight: Tensor, bits: int, size: int) -> Tensor:
    codes, step = codes_and_steps(weight, bits, size)
    return (codes * step).reshape(weight.shape)


def sqnr(found: Tensor, wanted: Tensor) -> float:
    noise = (found - wanted).square().mean()
    return float(10 * torch.log10(wanted.square().mean() / noise))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, COLUMNS), (2, 5, COLUMNS)], ids=["matrix", "tokens"])
@pytest.mark.parametrize("config", CONFIGS)
def test_the_program_multiplies_by_the_rounded_weight(
    config: str, shape: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(COLUMNS, ROWS, bias=bias), torch.randn(shape)
    result = quantize(model, x, config=config)
    bits, size = CONFIGS[config]
    wanted = nn.functional.linear(x, rounded(model.weight, bits, size), model.bias).detach()
    torch.testing.assert_close(result.converted(x), wanted)
    # The plugin quantizes activations to int8, by groups of the columns, or computes in float.
    assert sqnr(result.run(x), wanted) > 35
    (row,) = result.report.operators
    assert (row.place, row.types) == ("int8", f"f32, i{bits} -> f32")
    assert not result.audit.defects
    scales = ROWS * COLUMNS // size * (2 if bits == 4 else 4)
    assert len(result.program) < ROWS * COLUMNS * bits // 8 + scales + 16_000


class Named(nn.Module):
    """A model with an input that is named as the lowering names packed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(COLUMNS, ROWS)

    def forward(self, weight_in_groups: Tensor) -> Tensor:
        found: Tensor = self.layer(weight_in_groups)
        return found


def test_the_inputs_of_a_model_may_have_any_name() -> None:
    result = quantize(Named(), torch.randn(5, COLUMNS), config="int4_weight_groupwise")
    assert result.report.operators[0].types == "f32, i4 -> f32"


def test_weights_in_groups_are_packed_in_the_file_and_in_the_kernel() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(COLUMNS, ROWS)
    result = quantize(linear, torch.randn(1, COLUMNS), config="int4_weight_groupwise")
    codes, _ = codes_and_steps(linear.weight, *CONFIGS["int4_weight_groupwise"])
    flat = codes.flatten().to(torch.int32).numpy() & 15
    files = split(result.program)
    model = openvino.Core().read_model(files[GRAPH], files[WEIGHTS])
    stored = {
        each.get_element_type().get_type_name(): each.data
        for each in model.get_ordered_ops()
        if each.get_type_name() == "Constant"
    }
    packed = stored["i4"].reshape(-1).view(np.uint8)  # the low half of each byte comes first
    np.testing.assert_array_equal(packed, flat[0::2] | flat[1::2] << 4)
    kernels = compiled_model(result.program).get_runtime_model().get_ordered_ops()
    (product,) = (each for each in kernels if layer(each)["layerType"] == "FullyConnected")
    weight = product.input_value(1).get_node()
    assert (layer(weight)["layerType"], layer(weight)["outputPrecisions"]) == ("Const", "i4")


def test_weights_alone_stand_next_to_quantized_activations_and_float() -> None:
    torch.manual_seed(0)
    layers = [each for _ in range(3) for each in (nn.Linear(64, 64), nn.Softmax(-1))]
    model = nn.Sequential(*layers, nn.Linear(64, 64))
    quantizer = qreg.get_quantizer("openvino").set_module_name("2", "int8_weight_per_channel")
    quantizer.set_module_name("4", "int4_weight_groupwise_64").set_module_name("6", None)
    batches = [(torch.randn(8, 64),) for _ in range(4)]
    result = quantize(model, batches[0][0], quantizer=quantizer, calibration=batches)
    linears = [each for each in result.report.operators if "linear" in each.operator]
    assert [each.place for each in linears] == ["int8", "int8", "int8", "float"]
    assert [each.types for each in linears][1:3] == ["f32, i8 -> f32", "f32, i4 -> f32"]
    assert result.verification.to_converted[0].sqnr > 30


def test_scales_beyond_half_precision_stay_in_float() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(COLUMNS, ROWS), torch.randn(5, COLUMNS)
    linear.weight.data[:2] *= 1e-3
    result = quantize(linear, x, config="int4_weight_groupwise")
    wanted = nn.functional.linear(x, rounded(linear.weight, 4, 32), linear.bias).detach()
    torch.testing.assert_close(result.converted(x), wanted)
    small = result.run(x)[:, :2] - linear.bias.detach()[:2]
    assert sqnr(small, wanted[:, :2] - linear.bias.detach()[:2]) > 30


@pytest.mark.parametrize("config", ["int8_weight_per_channel", "int4_weight_groupwise"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["addmm", "matmul"])
def test_a_product_runs_as_the_linear_that_it_is(config: str, with_bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 64)
    product = Times(torch.addmm if with_bias else lambda _, x, w: x @ w, 48, inputs=64)
    linear = nn.Linear(64, 48, bias=with_bias)
    linear.weight.data = product.weight.data.T.contiguous()
    if with_bias:
        linear.bias.data = product.bias
    found, wanted = (quantize(each, x, config=config) for each in (product, linear))
    assert torch.equal(found.run(x), wanted.run(x))
    assert found.report.operators[0].types == wanted.report.operators[0].types


def test_the_audit_finds_each_linear_next_to_sums() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.one(x).relu()
            return x + self.two(x)

    result = quantize(Added(), torch.randn(2, 64), config="int4_weight_groupwise")
    places = [(each.operator, each.place) for each in result.report.operators]
    linear, add = ("aten.linear.default", "int8"), ("aten.add.Tensor", "float")
    assert places == [linear, ("aten.relu.default", "int8"), add, linear, add]


@pytest.mark.parametrize(
    ("columns", "rows", "reason"),
    [
        (48, 8, "its 48 columns are not a multiple of the group size 32"),
        (64, 1, "its weight is one row, which OpenVINO unpacks when it loads the model"),
    ],
)
def test_a_linear_that_cannot_stay_packed_is_left_in_float(
    columns: int, rows: int, reason: str
) -> None:
    quantizer = qreg.get_quantizer("openvino", "int4_weight_groupwise", allow_float=True)
    x = torch.randn(2, columns)
    explained = qreg.explain(nn.Linear(columns, rows), (x,), quantizer=quantizer, progress=False)
    assert explained.operators[0].reason == reason


def test_groups_that_the_kernels_do_not_have_are_rejected() -> None:
    with pytest.raises(qreg.errors.ConfigError, match=r"in groups of 24 .expected a power of 2"):
        qreg.get_quantizer("openvino", weight_config(INT4, group_size=24))
