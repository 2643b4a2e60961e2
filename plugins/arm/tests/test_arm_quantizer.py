"""Arm's quantizer within qreg's scopes, and next to annotators of others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import qreg
from qreg import Registry
from qreg.annotators.annotate import standard
from qreg.errors import InputError
from qreg.graph.provenance import CUSTOM
from qreg_arm.compat import quantized_key

ROW = (3, 16)
BATCHES = [(torch.randn(3, 16),) for _ in range(4)]


class Third:
    """Somebody else's pattern for a linear layer."""

    @qreg.hookimpl
    def qreg_annotators(self, backend: str) -> Any:
        if backend == "arm":
            matcher = qreg.patterns.weighted()
            yield qreg.Annotator("mine", ["aten.linear.default"], matcher, annotate=standard)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).eval()


def places(result: qreg.Result) -> dict[str, str]:
    assert result.audit is not None
    return {each.node: each.place for each in result.audit.placements.values()}


def test_an_annotator_of_another_distribution_goes_first_and_ends_in_int8(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("arm", registry=Registry({"third": Third()}))
    result = quantized(net(), ROW, quantizer=quantizer)
    by = {each.node: each.annotator for each in result.decisions}
    assert by == {"linear": "mine", "tanh": "ArmQuantizer", "linear_1": "mine"}
    assert places(result) == {"linear": "int8", "tanh": "int8", "linear_1": "int8"}
    assert result.verification.to_converted[0].sqnr > 60


def test_what_is_kept_in_float_is_float_in_the_program(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("arm").set_module_name("0", None)
    result = quantized(net(), ROW, quantizer=quantizer)
    decisions = {each.node: each for each in result.decisions}
    assert decisions["linear"].reason == "name '0' keeps it in float"
    assert places(result) == {"linear": "float", "tanh": "int8", "linear_1": "int8"}


def test_an_input_of_float_operators_only_is_not_quantized(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("arm", None).set_module_name("2", "int8_static_per_tensor")
    result = quantized(net(), ROW, quantizer=quantizer)
    assert places(result) == {"linear": "float", "tanh": "float", "linear_1": "int8"}
    assert [each.kind for each in result.lowered.conversions] == ["quantize", "dequantize"]
    assert result.lowered.conversions[0].producers == ("tanh",)


def test_two_configs_in_one_model(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("arm").set_module_name("2", "int8_static_per_tensor")
    result = quantized(net(), ROW, quantizer=quantizer)
    configs = {each.node: each.config for each in result.decisions}
    assert configs["linear"] == "int8_static_per_channel"
    assert configs["linear_1"] == "int8_static_per_tensor"
    assert set(places(result).values()) == {"int8"}
    assert result.verification.to_converted[0].sqnr == float("inf")


def test_half_a_pattern_in_float_does_not_cost_the_other_half_its_range(quantized: Any) -> None:
    module = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    quantizer = qreg.get_quantizer("arm").set_module_name("1", None)
    result = quantized(module, ROW, quantizer=quantizer)
    assert places(result)["linear"] == places(result)["linear_1"] == "int8"
    assert result.audit.defects == ()


def test_arms_mark_and_the_origin_are_side_by_side() -> None:
    graph: Any = torch.export.export(net(), BATCHES[0]).module(check_guards=False)
    quantizer = qreg.get_quantizer("arm").set_module_name("0", None)
    quantizer.annotate(quantizer.transform_for_annotation(graph))
    custom = {node.name: node.meta.get(CUSTOM, {}) for node in graph.graph.nodes}
    assert custom["linear"] == {"qreg": "linear"}
    assert set(custom["tanh"]) == {"qreg", quantized_key()}


def test_a_model_with_state_is_rejected_by_the_name_of_its_buffer() -> None:
    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(4, 4)
            self.seen = torch.nn.Buffer(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.fc(x + self.seen)
            self.seen.add_(1)
            return y

    model, x = Counting().eval(), torch.randn(2, 4)
    with pytest.raises(InputError, match="changes its buffer 'seen', and a TOSA program keeps no"):
        qreg.quantize(model, (x,), backend="arm", calibration=[(x,)], progress=False)
    assert torch.equal(model.seen, torch.ones(4))
