"""Right where upstream is wrong, in programs: the rows of ``test_rows.py`` that run.

The number of a test is that of its row in the comparison page of the docs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rows import (
    DYNAMIC,
    IMAGE,
    STATIC,
    Call,
    agrees,
    batches,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, prepare_qat_pt2e
from upstream import (
    UpstreamQuantizer,
    annotated,
    exported,
    points,
    upstream_config,
)

import qreg
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config


def test_2_a_linear_with_bias_used_at_two_scales_is_right_in_the_program() -> None:
    linear = nn.Linear(8, 8)
    nn.init.constant_(linear.bias, 3.0)
    module = Call(lambda self, x, y: (self.linear(x), self.linear(y)), linear=linear)
    data = batches(2, 8, scales=(1.0, 50.0))
    result = qreg.quantize(module, data[0], calibration=data)
    assert {decision.status for decision in result.decisions} == {"annotated"}
    assert agrees(result)
    assert all(each.sqnr > 25 for each in result.verification.to_float)


def test_3_a_conv_with_bias_used_twice_loads_and_is_right() -> None:
    module = Call(lambda self, x: self.conv(self.conv(x) * 20), conv=nn.Conv2d(4, 4, 3))
    data = batches(1, 4, 8, 8)
    result = qreg.quantize(module, data[0], calibration=data)
    assert {decision.status for decision in result.decisions} == {"annotated"}
    assert agrees(result)


def test_4_a_slice_between_convolutions_shares_parameters_and_loads() -> None:
    module = Call(
        lambda self, x: self.second(self.first(x)[:, 1:3] * 3),
        first=nn.Conv2d(4, 4, 3),
        second=nn.Conv2d(2, 4, 3),
    )
    data = batches(1, 4, 8, 8)
    result = qreg.quantize(module, data[0], calibration=data)
    assert "shared" in result.decided
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    assert agrees(result)


def test_5_dynamic_with_per_tensor_weights_is_refused_before_calibration() -> None:
    class Batches:
        def __iter__(self) -> Any:
            raise AssertionError("calibration began")

    config = get_symmetric_quantization_config(is_dynamic=True)
    with pytest.raises(qreg.errors.ConfigError, match="per_channel_symmetric"):
        qreg.quantize(nn.Linear(8, 4), (torch.randn(2, 8),), config=config, calibration=Batches())


def test_5_the_named_dynamic_config_is_per_channel_and_runs() -> None:
    data = batches(2, 8)
    result = qreg.quantize(nn.Linear(8, 4), data[0], config="int8_dynamic_per_channel")
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    assert agrees(result, 25)


def test_7_a_transposed_convolution_with_batch_norm_trains_along_axis_1_and_runs() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    images = torch.randn(4, 4, 8, 8)
    quantizer = qreg.get_quantizer("xnnpack", "int8_qat_per_channel")
    prepared = prepare_qat_pt2e(exported(module, (images,), is_qat=True), quantizer)
    prepared(images)
    converted = qreg.convert(prepared)
    (weight,) = [n for n in converted.graph.nodes if "dequantize_per_channel" in str(n.target)]
    assert weight.args[3] == 1
    lowered = qreg.lower(converted, (images,))
    assert (lowered.delegates, lowered.outside) == (1, ())
    (got,) = (
        qreg.plugins.registry.installed().backend("xnnpack").value.load(lowered.program)([images])
    )
    from qreg.verification.metrics import compare

    assert compare(converted(images).detach(), got).sqnr > 35


def test_10_a_scalar_added_to_ids_stays_an_integer() -> None:
    embedding = nn.Embedding(8, 16)
    module = Call(
        lambda self, ids: self.linear(self.embedding(ids + 1)),
        embedding=embedding,
        linear=nn.Linear(16, 4),
    )
    ids = torch.randint(0, 7, (1, 4))
    result = qreg.quantize(module, (ids,), calibration=[(ids,)])
    assert agrees(result)


def test_11_mul_and_relu_both_run_in_int8() -> None:
    module = Call(lambda self, x, y: F.relu(x * y))
    data = batches(1, 4, 8, 8, scales=(1.0, 2.0))
    result = qreg.quantize(module, data[0], calibration=data)
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    statuses = {decision.operator: decision.status for decision in result.decisions}
    assert statuses == {"aten.mul.Tensor": "annotated", "aten.relu.default": "shared"}
    assert agrees(result)


def test_17_a_model_that_switches_gradients_off_is_annotated() -> None:
    linear = nn.Linear(8, 8)

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return F.relu(self.linear(x))

    x = torch.randn(2, 8)
    quantizer = XNNPACKQuantizer().set_global(STATIC)
    graph_module = exported(Inside(), (x,))
    assert points(annotated(graph_module, UpstreamQuantizer().set_global(upstream_config()))) == {}
    prepared = prepare_pt2e(graph_module, quantizer)
    prepared(x)
    assert {decision.annotator for decision in quantizer.decisions} == {"linear_relu"}
    assert qreg.quantize(Inside(), (x,), calibration=[(x,)]).decided["annotated"] == 2


@pytest.mark.parametrize("kept", ["weight", "input_activation"])
def test_18_a_partial_config_is_refused_with_the_reason(kept: str) -> None:
    """Weight-only and activation-only int8 both run in float in the delegate: no gain to sell."""
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    roles = {"input_activation": None, "output_activation": None, "weight": None, "bias": None}
    config = QuantizationConfig(**{**roles, kept: getattr(STATIC, kept)})
    x = torch.randn(2, 8)
    with pytest.raises(qreg.errors.NothingQuantizedError, match="would compute in float"):
        qreg.quantize(nn.Linear(8, 4), (x,), config=config, calibration=[(x,)])


def test_19_eps_is_a_parameter_that_saves_small_weights() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 8, bias=False)
    nn.init.normal_(linear.weight, std=1e-4)
    x = torch.randn(32, 64) * 100
    sqnr = {}
    for eps in (2**-12, 2**-24):
        config = get_symmetric_quantization_config(is_per_channel=True, eps=eps)
        result = qreg.quantize(linear, (x,), calibration=[(x,)], config=config)
        sqnr[eps] = result.verification.to_float[0].sqnr
    assert sqnr[2**-12] < 10
    assert sqnr[2**-24] > 30


def test_21_max_pooling_without_a_stride_runs_in_int8() -> None:
    module = Call(lambda self, x: F.max_pool2d(self.conv(x), 2), conv=nn.Conv2d(4, 4, 3))
    data = batches(1, 4, 8, 8)
    result = qreg.quantize(module, data[0], calibration=data)
    assert result.decided == {"annotated": 1, "shared": 1}
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    assert agrees(result)


def test_21_max_pooling_without_a_stride_lowers_in_float_too() -> None:
    lowered = qreg.lower(Call(lambda self, x: F.max_pool2d(x, 2)), (IMAGE,))
    (got,) = (
        qreg.plugins.registry.installed().backend("xnnpack").value.load(lowered.program)([IMAGE])
    )
    torch.testing.assert_close(got, F.max_pool2d(IMAGE, 2))


def test_22_a_convolution_in_3d_stays_float_and_the_rest_runs_in_int8() -> None:
    module = Call(
        lambda self, x: self.linear(self.conv(x).flatten(1)),
        conv=nn.Conv3d(2, 2, 3),
        linear=nn.Linear(16, 4),
    )
    data = batches(1, 2, 4, 4, 4)
    result = qreg.quantize(module, data[0], calibration=data)
    reasons = {decision.operator: decision.reason for decision in result.decisions}
    assert reasons["aten.conv3d.default"] == "convolution in 3d: the delegate supports 1d and 2d"
    assert result.decided["annotated"] == 1
    assert agrees(result)


def test_24_static_and_dynamic_live_in_one_model() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    quantizer = XNNPACKQuantizer().set_global(STATIC).set_module_name("1", DYNAMIC)
    data = batches(2, 8)
    result = qreg.quantize(module, data[0], quantizer=quantizer, calibration=data)
    configs = {decision.module: decision.config for decision in result.decisions}
    assert configs == {"0": "int8_static_per_channel", "1": "int8_dynamic_per_channel"}
    assert agrees(result, 25)


def test_27_select_and_whole_pools_are_slices_views_and_the_global_pool() -> None:
    module = Call(
        lambda self, x: self.linear(F.avg_pool2d(self.conv(x), 6).flatten(1)[:, :4].unbind()[-1]),
        conv=nn.Conv2d(4, 8, 3),
        linear=nn.Linear(4, 4),
    )
    data = batches(2, 4, 8, 8)
    result = qreg.quantize(module, data[0], calibration=data)
    assert result.decided["float"] == 0
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    assert agrees(result)


def test_28_a_write_to_a_slice_runs_in_int8() -> None:
    def half_changed(self: Any, x: Any) -> Any:
        y = self.first(x)
        y[:, :2] = self.part(y[:, :2])
        return self.second(y)

    parts = {"first": nn.Conv2d(4, 4, 3), "part": nn.Conv2d(2, 2, 1), "second": nn.Conv2d(4, 4, 3)}
    data = batches(1, 4, 8, 8)
    result = qreg.quantize(Call(half_changed, **parts), data[0], calibration=data)
    assert result.decided["float"] == 0
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    assert agrees(result)
