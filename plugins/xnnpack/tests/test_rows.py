"""Right where upstream is wrong: one test or more for each row of that table, by its number.

Rows 1 to 28 are listed in the comparison page of the docs. Rows 6, 7, 9, 11, 20, 22 and 23 are
shown against upstream's own annotations in ``test_against_upstream.py`` too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from upstream import (
    UpstreamQuantizer,
    annotated,
    exported,
    points,
    upstream_config,
)

import qreg
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config

STATIC = get_symmetric_quantization_config(is_per_channel=True)
DYNAMIC = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
IMAGE = torch.randn(1, 4, 8, 8)


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class TwoConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def decided(quantizer: Any, module: nn.Module, *inputs: Tensor) -> dict[str, qreg.Decision]:
    annotated_in_place(exported(module, inputs), quantizer)
    return {decision.node: decision for decision in quantizer.decisions}


def annotated_in_place(graph_module: Any, quantizer: Any) -> Any:
    graph_module = quantizer.transform_for_annotation(graph_module)
    return quantizer.annotate(graph_module)


def batches(*shape: int, scales: tuple[float, ...] = (1.0,)) -> list[tuple[Tensor, ...]]:
    torch.manual_seed(0)
    return [tuple(torch.randn(shape) * scale for scale in scales) for _ in range(4)]


def agrees(result: qreg.Result, decibels: float = 35) -> bool:
    return all(each.sqnr > decibels for each in result.verification.to_converted)


def test_1_a_config_by_module_name_annotates_a_convolution() -> None:
    decisions = decided(XNNPACKQuantizer().set_module_name("first", STATIC), TwoConvs(), IMAGE)
    assert decisions["conv2d"].status == "annotated"
    assert decisions["conv2d_1"].status == "float"


def test_1_a_config_by_module_type_annotates_a_convolution() -> None:
    decisions = decided(XNNPACKQuantizer().set_module_type(nn.Conv2d, STATIC), TwoConvs(), IMAGE)
    assert {decision.status for decision in decisions.values()} == {"annotated"}


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


def test_2_and_3_a_bias_trained_in_qat_stays_one_and_its_calls_stay_float() -> None:
    """Two copies of a bias would be trained apart: better in float than another model."""
    module = Call(lambda self, x: self.linear(self.linear(x)), linear=nn.Linear(8, 8))
    quantizer = qreg.get_quantizer("xnnpack", "int8_qat_per_channel", allow_float=True)
    decisions = decided(quantizer, module, torch.randn(2, 8))
    assert {decision.status for decision in decisions.values()} == {"float"}
    assert "serves another call too" in decisions["linear"].reason


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


def test_6_a_dynamic_convolution_followed_by_relu_is_annotated() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
    decisions = decided(XNNPACKQuantizer().set_global(DYNAMIC), module, IMAGE)
    assert decisions["conv2d"].status == "annotated"


def test_7_a_transposed_convolution_with_batch_norm_trains_along_axis_1_and_runs() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    images = torch.randn(4, 4, 8, 8)
    quantizer = qreg.get_quantizer("xnnpack", "int8_qat_per_channel")
    prepared = prepare_qat_pt2e(exported(module, (images,), is_qat=True), quantizer)
    prepared(images)
    converted = convert_pt2e(prepared)
    (weight,) = [n for n in converted.graph.nodes if "dequantize_per_channel" in str(n.target)]
    assert weight.args[3] == 1
    lowered = qreg.lower(converted, (images,))
    assert (lowered.delegates, lowered.outside) == (1, ())
    (got,) = (
        qreg.plugins.registry.installed().backend("xnnpack").value.load(lowered.program)([images])
    )
    from qreg.verification.metrics import compare

    assert compare(converted(images).detach(), got).sqnr > 35


def test_8_the_query_returns_all_operators_by_name_and_by_an_equal_config() -> None:
    query = XNNPACKQuantizer.get_supported_operator_for_quantization_config
    by_name, by_copy = query("int8_static_per_channel"), query(copy.deepcopy(STATIC))
    assert by_name == by_copy
    assert [nn.Linear] in by_name
    assert [nn.Conv2d, nn.ReLU] in by_name
    assert [torch.add] in by_name


def test_9_cat_respects_filters() -> None:
    quantizer = XNNPACKQuantizer().set_global(STATIC).set_filter_function(lambda node: False)
    module = Call(lambda self, x: torch.cat([x, x * 2]))
    assert all(d.status == "float" for d in decided(quantizer, module, IMAGE).values())


def test_9_cat_of_integers_is_left_alone() -> None:
    quantizer = XNNPACKQuantizer().set_global(STATIC)
    decisions = decided(quantizer, Call(lambda self, x: torch.cat([x, x])), torch.ones(2, 2).long())
    assert "torch.int64" in decisions["cat"].reason


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


def test_12_an_operator_type_hits_that_operator_alone() -> None:
    module = Call(
        lambda self, x: self.plane(self.line(x).unsqueeze(0)),
        line=nn.Conv1d(4, 4, 1),
        plane=nn.Conv2d(1, 4, 1),
    )
    quantizer = XNNPACKQuantizer().set_operator_type(torch.ops.aten.conv1d.default, STATIC)
    decisions = decided(quantizer, module, torch.randn(1, 4, 8))
    assert decisions["conv1d"].status == "annotated"
    assert decisions["conv2d"].status == "float"


def test_12_a_packet_stands_for_its_overloads_and_none_keeps_float() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(2, 2, 1))
    quantizer = XNNPACKQuantizer().set_operator_type(torch.ops.aten.linear, STATIC)
    assert decided(quantizer, module, torch.randn(1, 2, 8))["linear"].status == "annotated"
    quantizer = XNNPACKQuantizer().set_global(STATIC)
    quantizer.set_operator_type(torch.ops.aten.linear.default, None)
    decisions = decided(quantizer, module, torch.randn(1, 2, 8))
    assert (decisions["linear"].status, decisions["conv1d"].status) == ("float", "annotated")


def test_13_a_child_beats_its_parent_in_any_order_and_none_keeps_float() -> None:
    for scopes in ([("0", STATIC), ("0.0", None)], [("0.0", None), ("0", STATIC)]):
        quantizer = XNNPACKQuantizer()
        for name, config in scopes:
            quantizer.set_module_name(name, config)
        module = nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
        decisions = decided(quantizer, module, torch.randn(2, 8))
        assert decisions["linear"].status == "float"
        assert decisions["linear_1"].status == "annotated"


def test_13_an_unknown_name_is_an_error_with_near_ones() -> None:
    with pytest.raises(qreg.errors.UnknownModuleError, match="first"):
        decided(XNNPACKQuantizer().set_module_name("frist", STATIC), TwoConvs(), IMAGE)


def test_14_parameters_are_not_shared_into_an_opted_out_module() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.MaxPool2d(2))
    quantizer = XNNPACKQuantizer().set_global(STATIC).set_module_name("1", None)
    decisions = decided(quantizer, module, IMAGE)
    assert decisions["max_pool2d"].status == "float"
    assert decisions["max_pool2d"].reason == "name '1' keeps it in float"


def test_15_annotating_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph_module = exported(TwoConvs(), (IMAGE,))
    monkeypatch.setattr(torch.export, "export", None)
    monkeypatch.setattr(torch.fx.Tracer, "trace", None)
    quantizer = XNNPACKQuantizer().set_global(STATIC)
    assert points(annotated(graph_module, quantizer))


def test_16_a_dynamic_convolution_of_one_input_channel_is_not_called_depthwise() -> None:
    """It is a plain convolution, yet the delegate's partitioner and serializer both treat it as
    depthwise and reject it. So it stays in float, and the reason names the delegate."""
    decisions = decided(XNNPACKQuantizer().set_global(DYNAMIC), nn.Conv2d(1, 4, 3), IMAGE[:, :1])
    assert decisions["conv2d"].status == "float"
    assert "one input channel" in decisions["conv2d"].reason
    assert "depthwise" not in decisions["conv2d"].reason


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


def test_20_only_what_the_delegate_takes_shares_parameters() -> None:
    module = Call(lambda self, x: self.conv(x).mean((0, 2, 3)), conv=nn.Conv2d(4, 4, 3))
    decisions = decided(XNNPACKQuantizer().set_global(STATIC), module, IMAGE)
    assert decisions["mean"].reason == (
        "mean over [0, 2, 3] of a 4d tensor: the kernel requires [2, 3] of 4d"
    )


def test_20_a_mean_without_keepdim_is_one_with_keepdim_and_a_view() -> None:
    module = Call(lambda self, x: self.conv(x).mean((2, 3)), conv=nn.Conv2d(4, 4, 3))
    decisions = decided(XNNPACKQuantizer().set_global(STATIC), module, IMAGE)
    assert {each.status for each in decisions.values()} == {"annotated", "shared"}


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


def test_23_an_in_place_add_of_a_scalar_is_annotated_as_add() -> None:
    module = Call(lambda self, x: (x * 1.0).add_(1))
    decisions = decided(XNNPACKQuantizer().set_global(STATIC), module, IMAGE)
    assert decisions["add_"].annotator == "add"


def test_24_static_and_dynamic_live_in_one_model() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    quantizer = XNNPACKQuantizer().set_global(STATIC).set_module_name("1", DYNAMIC)
    data = batches(2, 8)
    result = qreg.quantize(module, data[0], quantizer=quantizer, calibration=data)
    configs = {decision.module: decision.config for decision in result.decisions}
    assert configs == {"0": "int8_static_per_channel", "1": "int8_dynamic_per_channel"}
    assert agrees(result, 25)


def test_25_composing_calls_validate_and_the_observer_callback_of_each_part() -> None:
    class Part(XNNPACKQuantizer):
        def __init__(self) -> None:
            super().__init__("default", allow_float=True)
            self.called: list[str] = []

        def validate(self, model: Any) -> None:
            self.called.append("validate")

        def prepare_obs_or_fq_callback(self, model: Any, observers: Any) -> None:
            self.called.append("callback")

    parts = Part(), Part()
    prepare_pt2e(exported(TwoConvs(), (IMAGE,)), qreg.ComposedQuantizer(*parts))
    assert [part.called for part in parts] == [["validate", "callback"]] * 2


def test_26_converting_an_uncalibrated_model_is_an_error_that_names_the_observer() -> None:
    prepared = prepare_pt2e(exported(TwoConvs(), (IMAGE,)), qreg.get_quantizer("xnnpack"))
    with pytest.raises(
        qreg.errors.CalibrationError, match="the observer of first_weight saw no value"
    ):
        qreg.convert(prepared)


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
