"""Pins the private names of torch and torchao that qreg relies on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import (
    MinMaxObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, Quantizer
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from qreg import Annotation
from qreg.graph.compat import (
    annotate_node,
    annotation_of,
    largest_size,
    size_hint,
)


@pytest.fixture
def relu(capture: Callable[..., GraphModule]) -> Node:
    graph = capture(nn.ReLU(), torch.zeros(2)).graph
    return next(node for node in graph.nodes if node.op == "call_function")


class OneNode(Quantizer):  # type: ignore[misc]
    """Annotates the first operator with what qreg would write."""

    def __init__(self, spec: object) -> None:
        super().__init__()
        self.spec = spec

    def annotate(self, model: GraphModule) -> GraphModule:
        node = next(node for node in model.graph.nodes if node.op == "call_function")
        annotate_node(node, Annotation(node, {node.args[0]: self.spec}, self.spec))
        return model

    def validate(self, model: GraphModule) -> None: ...


def test_torchao_observes_what_qreg_annotates(
    capture: Callable[..., GraphModule], toy: ModuleType
) -> None:
    spec = toy.int8("MinMaxObserver").input_activation
    prepared = prepare_pt2e(capture(nn.ReLU(), torch.zeros(2)), OneNode(spec))
    observers = [each for each in prepared.modules() if isinstance(each, MinMaxObserver)]
    assert len(observers) == 2


def test_an_annotation_is_read_as_it_was_written(relu: Node, toy: ModuleType) -> None:
    spec = toy.int8("MinMaxObserver").input_activation
    annotate_node(relu, Annotation(relu, {relu.args[0]: spec}, spec))
    found = annotation_of(relu)
    assert found is not None
    assert (found.input_qspec_map, found.output_qspec) == ({relu.args[0]: spec}, spec)


def test_an_annotation_of_torchaos_own_counts(relu: Node) -> None:
    relu.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(_annotated=True)
    assert annotation_of(relu) is relu.meta[Q_ANNOTATION_KEY]


def test_a_node_can_be_taken_without_specs(relu: Node) -> None:
    annotate_node(relu, None)
    found = annotation_of(relu)
    assert found is not None
    assert (found.input_qspec_map, found.output_qspec) == ({}, None)


def test_a_node_without_an_annotation_that_counts_has_none(relu: Node) -> None:
    assert annotation_of(relu) is None
    relu.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(_annotated=False)
    assert annotation_of(relu) is None


def test_a_dynamic_size_is_known_as_in_the_example() -> None:
    shapes = ({0: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(nn.ReLU(), (torch.zeros(3, 4),), dynamic_shapes=shapes)
    batch, features = next(iter(program.graph.nodes)).meta["val"].shape
    assert isinstance(batch, torch.SymInt)
    assert (size_hint(batch), size_hint(features)) == (3, 4)


def test_the_largest_size_of_a_dimension_is_known_without_the_program() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x.sum() + y.sum()

    rows, columns = torch.export.Dim("rows", max=7), torch.export.Dim("columns")
    shapes = ({0: rows}, {0: columns})
    program = torch.export.export(Sum(), (torch.ones(3), torch.ones(4)), dynamic_shapes=shapes)
    inputs = program.module(check_guards=False).graph.find_nodes(op="placeholder")
    sizes = [node.meta["val"].shape[0] for node in inputs]
    assert [*map(largest_size, sizes), largest_size(5)] == [7, sys.maxsize, 5]
