"""Pins how operators are named and how patterns are found in a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from qreg.annotators.patterns import fused, listed, operands, weighted
from qreg.graph.index import GraphIndex
from qreg.graph.nodes import sole_user
from qreg.plugins.operator_names import operator_name

aten = torch.ops.aten
Capture = Callable[..., GraphModule]

RELU = ["aten.relu.default"]


class Branches(nn.Module):
    """A linear with one user, one with two, and operators of one and two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.forked = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        alone = self.alone(x).relu_()
        forked = self.forked(alone)
        doubled = forked.relu() + forked
        shifted = torch.add(doubled, doubled) + 1.0
        return torch.cat([shifted, x, x])


@pytest.fixture(scope="module")
def nodes(capture: Capture) -> dict[str, Node]:
    graph_module = capture(Branches(), torch.zeros(2, 3))
    return {node.name: node for node in graph_module.graph.nodes}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (aten.add.Tensor, "aten.add.Tensor"),
        (aten.add_.Tensor, "aten.add.Tensor"),
        (aten.relu_.default, "aten.relu.default"),
        (aten.add, "aten.add"),
        (aten.add_, "aten.add"),
        ("aten.add_.Tensor", "aten.add.Tensor"),
        ("aten.add", "aten.add"),
        (aten.__and__.Tensor, "aten.__and__.Tensor"),
        (aten._softmax.default, "aten._softmax.default"),
    ],
    ids=str,
)
def test_an_operator_is_named_in_its_functional_form(target: Any, name: str) -> None:
    assert operator_name(target) == name


def test_operands_are_the_inputs(nodes: dict[str, Node]) -> None:
    match = operands(0, 1)(nodes["add"])
    assert match is not None
    assert match.inputs == (nodes["relu"], nodes["linear_1"])
    assert match.nodes == (nodes["add"],)


def test_a_tensor_added_to_itself_is_one_input(nodes: dict[str, Node]) -> None:
    match = operands(0, 1)(nodes["add_1"])
    assert match is not None
    assert match.inputs == (nodes["add"],)


def test_a_number_is_no_operand(nodes: dict[str, Node]) -> None:
    assert operands(0, 1)(nodes["add_2"]) is None


def test_an_argument_beyond_the_call_is_no_operand(nodes: dict[str, Node]) -> None:
    assert operands(0, 5)(nodes["add"]) is None


def test_a_list_of_tensors_gives_each_once(nodes: dict[str, Node]) -> None:
    match = listed()(nodes["cat"])
    assert match is not None
    assert match.inputs == (nodes["add_2"], nodes["x"])


def test_no_list_is_no_match(nodes: dict[str, Node]) -> None:
    assert listed(1)(nodes["cat"]) is None


def test_a_weighted_operator_has_its_constants(nodes: dict[str, Node]) -> None:
    match = weighted()(nodes["linear"])
    assert match is not None
    assert match.inputs == (nodes["x"],)
    assert [match.weight, match.bias] == [nodes["alone_weight"], nodes["alone_bias"]]


def test_a_bias_may_be_missing(capture: Capture) -> None:
    graph = capture(nn.Linear(3, 3, bias=False), torch.zeros(2, 3)).graph
    (linear,) = (node for node in graph.nodes if node.op == "call_function")
    match = weighted()(linear)
    assert match is not None
    assert match.bias is None


def test_a_fused_pattern_takes_an_in_place_follower(nodes: dict[str, Node]) -> None:
    match = fused(weighted(), RELU)(nodes["linear"])
    assert match is not None
    assert match.nodes == (nodes["linear"], nodes["relu_"])
    assert (match.anchor, match.output) == (nodes["linear"], nodes["relu_"])


def test_a_fused_pattern_keeps_what_entered_its_head(nodes: dict[str, Node]) -> None:
    match = fused(weighted(), RELU)(nodes["linear"])
    assert match is not None
    assert match.inputs == (nodes["x"],)
    assert match.weight is nodes["alone_weight"]


def test_a_value_that_something_else_uses_is_not_fused(nodes: dict[str, Node]) -> None:
    assert fused(weighted(), RELU)(nodes["linear_1"]) is None
    assert sole_user(nodes["linear_1"]) is None


def test_another_follower_is_not_fused(nodes: dict[str, Node]) -> None:
    assert fused(weighted(), ["aten.sigmoid.default"])(nodes["linear"]) is None


def test_a_longer_chain_is_fused_in_its_order(nodes: dict[str, Node]) -> None:
    match = fused(operands(0), ["aten.add.Tensor"], ["aten.add.Tensor"])(nodes["relu"])
    assert match is not None
    assert match.nodes == (nodes["relu"], nodes["add"], nodes["add_1"])


def test_the_output_of_the_graph_is_no_follower(nodes: dict[str, Node]) -> None:
    assert fused(listed(), RELU)(nodes["cat"]) is None


def test_the_index_gives_several_operators_in_graph_order(nodes: dict[str, Node]) -> None:
    index = GraphIndex(nodes["x"].graph)
    found = index.starting(["aten.add.Tensor", "aten.relu.default", "aten.linear.default"])
    expected = ["linear", "relu_", "linear_1", "relu", "add", "add_1", "add_2"]
    assert [node.name for node in found] == expected


def test_the_index_has_nothing_for_an_operator_that_is_not_there(nodes: dict[str, Node]) -> None:
    assert not list(GraphIndex(nodes["x"].graph).starting(["aten.mul.Tensor"]))
