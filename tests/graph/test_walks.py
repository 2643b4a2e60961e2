"""Walks visit each node once, in the order that they promise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from qreg.graph.nodes import sources
from qreg.graph.provenance import CUSTOM, KEY, described, producer
from qreg.graph.walks import reachable

DIAMOND = {"a": "bc", "b": "d", "c": "d", "d": "", "e": "a"}
CYCLE = {"a": "b", "b": "ca", "c": "a"}


@pytest.mark.parametrize(
    ("edges", "start", "walk"),
    [
        pytest.param(DIAMOND, "a", "acdb", id="each node once"),
        pytest.param(DIAMOND, "aa", "acdb", id="a start given twice"),
        pytest.param(DIAMOND, "be", "eacdb", id="several starts"),
        pytest.param(CYCLE, "a", "abc", id="a circle"),
        pytest.param({"a": "bbb", "b": ""}, "a", "ab", id="a neighbour given twice"),
        pytest.param(DIAMOND, "", "", id="no start"),
    ],
)
def test_a_walk_yields_each_node_once(edges: dict[str, str], start: str, walk: str) -> None:
    assert "".join(reachable(start, edges.__getitem__)) == walk


def test_a_walk_that_is_left_early_asks_for_no_more_neighbours() -> None:
    asked: list[int] = []

    def neighbours(number: int) -> Sequence[int]:
        asked.append(number)
        return [number + 1]

    assert next(each for each in reachable([0], neighbours) if each == 3) == 3
    assert asked == [0, 1, 2]


class Model(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.relu(x).abs().neg() + y


def test_the_sources_of_a_node_lead_to_its_inputs() -> None:
    graph = symbolic_trace(Model()).graph
    (neg,) = graph.find_nodes(op="call_method", target="neg")
    assert [node.name for node in reachable([neg], sources)] == ["neg", "abs_1", "relu", "x"]


def test_the_producer_is_the_nearest_operator_with_an_origin() -> None:
    graph = symbolic_trace(Model()).graph
    neg, absolute = (graph.find_nodes(op="call_method", target=each)[0] for each in ("neg", "abs"))
    assert producer(neg).name == "x"
    producer_of_abs = absolute.all_input_nodes[0]
    producer_of_abs.meta[CUSTOM] = {KEY: "relu"}
    assert producer(neg) is producer_of_abs


def test_an_operator_is_described_with_its_module() -> None:
    graph = symbolic_trace(Model()).graph
    x, *_ = graph.nodes
    (relu,) = graph.find_nodes(op="call_function", target=torch.relu)
    assert described(x) == "the input 'x'"
    assert described(relu).endswith("(relu)")
    relu.meta["nn_module_stack"] = {"head": ("blocks.head", nn.ReLU)}
    assert described(relu).endswith("(relu) in module 'blocks.head'")
