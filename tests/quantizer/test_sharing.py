"""Pins operators that run on the qparams of others."""

from __future__ import annotations

from types import ModuleType

import torch
from annotating import Capture, decide
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from qreg import (
    Annotator,
    Registry,
    get_quantizer,
)
from qreg.annotators.annotate import shared_in_and_out, shared_with_producer
from qreg.annotators.patterns import listed, operands
from qreg.graph.compat import annotation_of


def test_an_operator_may_run_on_the_parameters_of_its_input(
    net: GraphModule, registry: Registry
) -> None:
    decided = decide(get_quantizer("toy", registry=registry), net)["relu_"]
    assert (decided.status, decided.annotator) == ("shared", "relu")
    assert decided.quantized


class Chain(nn.Module):
    """Operators in a row, of two annotators that share qparams."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([(x + x).relu().flatten(1), y]).relu()


def chain_plugin(toy: ModuleType) -> object:
    return toy.Extension(
        annotators=[
            Annotator(
                "flatten",
                ["aten.flatten.using_ints"],
                operands(0),
                annotate=shared_with_producer,
                before=["add"],
            ),
            Annotator("cat", ["aten.cat.default"], listed(), annotate=shared_in_and_out),
        ]
    )


def test_a_chain_of_sharing_annotators_runs_on_one_set_of_parameters(
    capture: Capture, toy: ModuleType
) -> None:
    registry = Registry({"toy": toy, "more": chain_plugin(toy)}, entry_points=False)
    inputs = torch.linspace(-1, 1, 6).reshape(1, 3, 2), torch.linspace(0, 9, 6).reshape(1, 6)
    quantizer = get_quantizer("toy", registry=registry)
    prepared = prepare_pt2e(capture(Chain(), *inputs), quantizer)
    prepared(*inputs)
    converted = convert_pt2e(prepared)
    statuses = [decision.status for decision in quantizer.decisions]
    assert statuses == ["annotated", "shared", "shared", "shared", "shared"]
    parameters = {
        node.args[1:3]
        for node in converted.graph.nodes
        if "dequantize" not in str(node.target) and "quantize" in str(node.target)
    }
    assert len(parameters) == 2  # those of x, and those of everything after the add


def test_sharing_follows_the_graph_not_the_order_of_annotators(
    capture: Capture, toy: ModuleType
) -> None:
    registry = Registry({"toy": toy, "more": chain_plugin(toy)}, entry_points=False)
    graph_module = capture(Chain(), torch.zeros(1, 3, 2), torch.zeros(1, 6))
    quantizer = get_quantizer("toy", registry=registry)
    decided = decide(quantizer, graph_module)
    names = [supplied.value.name for supplied in registry.annotators("toy")]
    assert names.index("flatten") < names.index("add")
    assert decided["flatten"].status == "shared"


def test_the_shared_spec_points_at_the_producer(net: GraphModule, registry: Registry) -> None:
    decide(get_quantizer("toy", registry=registry), net)
    nodes = {node.name: node for node in net.graph.nodes}
    found = annotation_of(nodes["relu_"])
    assert found is not None
    assert found.output_qspec == SharedQuantizationSpec(nodes["add"])
