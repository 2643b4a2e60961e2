"""What is constant is found alike by a walk upstream and by one pass over an unchanged graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import qreg
from qreg import Registry
from qreg.graph import nodes
from qreg.graph.nodes import is_constant, unchanged


class Mixed(nn.Module):
    """Constants, what is computed from them, from numbers alone, and from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("scale", torch.rand(4))
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.scale).t()
        y = x @ weight + torch.arange(4.0)
        return self.last(y + x).relu() + self.scale.exp()


@pytest.fixture
def graph(capture: Callable[..., GraphModule]) -> GraphModule:
    return capture(Mixed(), torch.randn(2, 4))


def test_both_ways_find_the_same_constants(graph: GraphModule) -> None:
    walked = {node.name for node in graph.graph.nodes if is_constant(node)}
    with unchanged(graph.graph):
        assert {node.name for node in graph.graph.nodes if is_constant(node)} == walked
    assert {"weight", "scale", "mul", "t", "exp"} <= walked
    assert walked.isdisjoint({"x", "arange", "matmul", "relu", "output"})


def test_another_graph_is_still_walked(
    graph: GraphModule, capture: Callable[..., GraphModule]
) -> None:
    other = capture(Mixed(), torch.randn(2, 4))
    with unchanged(other.graph):
        found = [node.name for node in graph.graph.nodes if is_constant(node)]
    assert "t" in found


def test_annotation_walks_from_no_operator(
    graph: GraphModule, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk from each sum to the input would be quadratic in residual networks."""
    quantizer = qreg.get_quantizer("toy", registry=registry)
    graph = quantizer.transform_for_annotation(graph)
    monkeypatch.setattr(nodes, "reachable", None)
    quantizer.annotate(graph)
    assert any(each.status == "annotated" for each in quantizer.decisions)
