"""The families that backends share: their names, modes and rules, and what pays in them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qreg import ALL_MODES, STATIC
from qreg.annotators.annotate import standard
from qreg.annotators.builders import continuing
from qreg.annotators.families import convolutions, products
from qreg.annotators.profitability import Islands
from qreg.configs.factory import config
from qreg.graph.operators import CONV, LINEAR, RELU

ISLANDS = Islands(frozenset({*CONV, *LINEAR}), frozenset(RELU))


def first(match: Any, config: Any) -> None: ...


def last(match: Any, config: Any) -> None: ...


def test_convolutions_fold_batch_norm_in_qat_alone() -> None:
    found = {each.name: each for each in convolutions(standard, RELU, "relu")}
    assert list(found) == ["conv_bn_relu", "conv_bn", "conv_relu", "conv"]
    assert [each.modes for each in found.values()] == [{"qat"}, {"qat"}, STATIC, STATIC]
    assert found["conv_bn_relu"].summary == "conv1d, conv2d or conv3d, then batch_norm, then relu"


def test_rules_of_fused_operators_are_asked_of_those_patterns_alone() -> None:
    made = [
        *convolutions(standard, RELU, "relu", rules=(first,), fused_rules=(last,)),
        *products(ISLANDS, RELU, "relu", linear_rules=(first,), fused_rules=(last,)),
    ]
    asked = {each.name: (first in each.rules, last in each.rules) for each in made}
    assert asked == {
        **{"conv_bn_relu": (True, True), "conv_relu": (True, True), "conv_bn": (True, False)},
        **{"conv": (True, False), "linear_relu": (True, True), "linear": (True, False)},
        **{"addmm_relu": (False, True), "addmm": (False, False)},
        **{"matmul_weight_relu": (False, True), "matmul_weight": (False, False)},
    }


def test_only_products_without_a_follower_have_other_modes() -> None:
    found = {each.name: each.modes for each in products(ISLANDS, RELU, "act", modes=ALL_MODES)}
    assert {name for name, modes in found.items() if modes == ALL_MODES} == {
        *("linear", "addmm", "matmul_weight"),
    }
    assert found["linear_act"] == STATIC


def test_what_continues_is_quantized_between_products_alone(capture: Any) -> None:
    sigmoid = continuing(ISLANDS, "sigmoid", ("aten.sigmoid.default",))
    between = capture(
        nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid()),
        torch.randn(2, 4),
    )
    nodes = between.graph.find_nodes(op="call_function", target=torch.ops.aten.sigmoid.default)
    matches = [sigmoid.match(node) for node in nodes]
    reasons = [
        next((reason for rule in sigmoid.rules if (reason := rule(match, config()))), None)
        for match in matches
    ]
    assert reasons[0] is None
    assert "no convolution, linear or matmul reads it" in reasons[1]
