"""Pins patterns that are written as plain functions: what they find, and what they do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from qreg import Match
from qreg.annotators.patterns import traced
from qreg.errors import ConfigError

Capture = Callable[..., GraphModule]

LINEAR, RELU, ADD = "aten.linear.default", "aten.relu.default", "aten.add.Tensor"
X, W, B = torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(3)

linear_relu = traced(
    lambda x, w, b: F.relu(F.linear(x, w, b)), (X, W, B), (LINEAR, RELU), weight="w", bias="b"
)
plus_two = traced(lambda x: (x + 2.0).relu(), (X,), (ADD, RELU), literals=True)
plus_any = traced(lambda x: (x + 2.0).relu(), (X,), (ADD, RELU))


class Net(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).relu()


class Forked(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y.relu() + y


class Plus(nn.Module):
    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.number).relu()


def at_relu(matcher: Callable[[Node], Match | None], graph_module: GraphModule) -> Match | None:
    (relu,) = (node for node in graph_module.graph.nodes if str(node.target) == RELU)
    return matcher(relu)


def test_a_function_is_found_with_its_constants(capture: Capture) -> None:
    match = at_relu(linear_relu, capture(Net(), X))
    assert match is not None
    assert match.weight is not None
    assert match.bias is not None
    assert [node.name for node in match.nodes] == ["linear", "relu"]
    assert [node.name for node in match.inputs] == ["x"]
    assert (match.weight.target, match.bias.target) == ("fc.weight", "fc.bias")


def test_it_is_found_without_its_bias_too(capture: Capture) -> None:
    match = at_relu(linear_relu, capture(Net(bias=False), X))
    assert match is not None
    assert match.weight is not None
    assert match.bias is None


def test_a_value_that_something_else_uses_is_not_found(capture: Capture) -> None:
    assert at_relu(linear_relu, capture(Forked(), X)) is None


def test_another_function_is_not_found(capture: Capture) -> None:
    assert at_relu(plus_any, capture(Net(), X)) is None


@pytest.mark.parametrize(("number", "same"), [(2.0, True), (3.0, False)])
def test_numbers_count_only_if_asked(number: float, same: bool, capture: Capture) -> None:
    graph_module = capture(Plus(number), X)
    assert at_relu(plus_any, graph_module) is not None
    assert (at_relu(plus_two, graph_module) is not None) == same


def test_nothing_is_traced_for_a_graph_without_the_operators(capture: Capture) -> None:
    calls: list[Tensor] = []

    def function(x: Tensor) -> Tensor:
        calls.append(x)
        return x.sigmoid().relu()

    matcher = traced(function, (X,), ("aten.sigmoid.default", RELU))
    assert at_relu(matcher, capture(Net(), X)) is None
    assert not calls


def test_an_operator_that_was_not_given_is_an_error(capture: Capture) -> None:
    matcher = traced(lambda x, w: F.relu(F.linear(x, w)), (X, W), (RELU,))
    with pytest.raises(ConfigError, match="Pass all of them"):
        at_relu(matcher, capture(Net(), X))
