"""Right where upstream is wrong: one test or more for each row of that table, by its number.

Rows 1 to 28 are listed in the comparison page of the docs. Rows 6, 7, 9, 11, 20, 22 and 23 are
shown against upstream's own annotations in ``test_against_upstream.py`` too.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rows import (
    DYNAMIC,
    IMAGE,
    STATIC,
    Call,
    TwoConvs,
    decided,
)
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
from upstream import (
    annotated,
    exported,
    points,
)

import qreg
from qreg_xnnpack import XNNPACKQuantizer


def test_1_a_config_by_module_name_annotates_a_convolution() -> None:
    decisions = decided(XNNPACKQuantizer().set_module_name("first", STATIC), TwoConvs(), IMAGE)
    assert decisions["conv2d"].status == "annotated"
    assert decisions["conv2d_1"].status == "float"


def test_1_a_config_by_module_type_annotates_a_convolution() -> None:
    decisions = decided(XNNPACKQuantizer().set_module_type(nn.Conv2d, STATIC), TwoConvs(), IMAGE)
    assert {decision.status for decision in decisions.values()} == {"annotated"}


def test_2_and_3_a_bias_trained_in_qat_stays_one_and_its_calls_stay_float() -> None:
    """Two copies of a bias would be trained apart: better in float than another model."""
    module = Call(lambda self, x: self.linear(self.linear(x)), linear=nn.Linear(8, 8))
    quantizer = qreg.get_quantizer("xnnpack", "int8_qat_per_channel", allow_float=True)
    decisions = decided(quantizer, module, torch.randn(2, 8))
    assert {decision.status for decision in decisions.values()} == {"float"}
    assert "serves another call too" in decisions["linear"].reason


def test_6_a_dynamic_convolution_followed_by_relu_is_annotated() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
    decisions = decided(XNNPACKQuantizer().set_global(DYNAMIC), module, IMAGE)
    assert decisions["conv2d"].status == "annotated"


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


def test_23_an_in_place_add_of_a_scalar_is_annotated_as_add() -> None:
    module = Call(lambda self, x: (x * 1.0).add_(1))
    decisions = decided(XNNPACKQuantizer().set_global(STATIC), module, IMAGE)
    assert decisions["add_"].annotator == "add"


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
