"""Pins the pass over a graph: one Decision for each operator, annotations only where a match is."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from annotating import ADD, LINEAR, Capture, bare_quantizer, decide
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from qreg import (
    Annotator,
    Decision,
    Refusal,
    Registry,
    get_quantizer,
)
from qreg.annotators.patterns import operands
from qreg.graph.compat import annotation_of
from qreg.quantizer.annotation_pass import annotate_with

# What is decided


def test_every_operator_has_one_decision_in_graph_order(
    net: GraphModule, registry: Registry
) -> None:
    operators = [node.name for node in net.graph.nodes if node.op == "call_function"]
    quantizer = get_quantizer("toy", registry=registry)
    quantizer.annotate(net)
    assert [decision.node for decision in quantizer.decisions] == operators
    assert operators == ["linear", "relu", "add", "relu_", "sigmoid"]


def test_a_decision_says_what_was_quantized_by_whom(net: GraphModule, registry: Registry) -> None:
    assert decide(get_quantizer("toy", registry=registry), net)["linear"] == Decision(
        node="linear",
        operator="aten.linear.default",
        module="fc",
        status="annotated",
        reason="minmax, by the global config",
        annotator="linear_relu",
        distribution="in-process",
        config="minmax",
        pattern=("linear", "relu"),
    )


def test_a_config_of_the_users_own_is_called_custom(
    net: GraphModule, registry: Registry, toy: ModuleType
) -> None:
    quantizer = get_quantizer("toy", toy.int8_of_its_own(), registry=registry)
    assert decide(quantizer, net)["add"].config == "custom"


def test_a_named_config_is_called_by_its_name_however_it_came(
    net: GraphModule, registry: Registry, toy: ModuleType
) -> None:
    quantizer = get_quantizer("toy", toy.int8("HistogramObserver"), registry=registry)
    assert decide(quantizer, net)["add"].config == "histogram"


# What is annotated


def test_annotating_twice_changes_nothing(net: GraphModule, registry: Registry) -> None:
    decide(get_quantizer("toy", registry=registry), net)
    before = {node: annotation_of(node) for node in net.graph.nodes}
    decide(get_quantizer("toy", "histogram", registry=registry), net)
    assert all(annotation_of(node) is before[node] for node in net.graph.nodes)


def test_only_operators_of_a_match_are_annotated(net: GraphModule, registry: Registry) -> None:
    decided = decide(get_quantizer("toy", registry=registry), net)
    annotated = {node.name for node in net.graph.nodes if annotation_of(node)}
    assert annotated == {name for decision in decided.values() for name in decision.pattern}
    assert annotated == {"linear", "relu", "add", "relu_"}


def test_the_config_reaches_inputs_weight_and_output(
    net: GraphModule, registry: Registry, toy: ModuleType
) -> None:
    decide(get_quantizer("toy", registry=registry), net)
    config = toy.int8("MinMaxObserver")
    nodes = {node.name: node for node in net.graph.nodes}
    linear, relu = annotation_of(nodes["linear"]), annotation_of(nodes["relu"])
    assert linear is not None
    assert relu is not None
    specs = {nodes["x"]: config.input_activation, nodes["fc_weight"]: config.weight}
    assert (linear.input_qspec_map, linear.output_qspec) == (specs, None)
    assert (relu.input_qspec_map, relu.output_qspec) == ({}, config.output_activation)


def test_the_graph_keeps_its_operators(net: GraphModule, registry: Registry) -> None:
    before = [str(node.target) for node in net.graph.nodes]
    decide(get_quantizer("toy", registry=registry), net)
    assert [str(node.target) for node in net.graph.nodes] == before


def test_the_earlier_annotator_has_the_operator(net: GraphModule, toy: ModuleType) -> None:
    first, second = (Annotator(name, [ADD], operands(0, 1)) for name in ("first", "second"))
    assert decide(bare_quantizer(toy, first, second), net)["add"].annotator == "first"


def test_an_annotator_that_asks_to_be_earlier_has_the_operator(
    net: GraphModule, toy: ModuleType
) -> None:
    first = Annotator("first", [ADD], operands(0, 1))
    second = Annotator("second", [ADD], operands(0, 1), before=["first"])
    assert decide(bare_quantizer(toy, first, second), net)["add"].annotator == "second"


def test_where_a_rule_refuses_the_next_annotator_is_asked(
    net: GraphModule, toy: ModuleType
) -> None:
    picky = Annotator("picky", [ADD], operands(0, 1), rules=[lambda match, config: "no"])
    decided = decide(bare_quantizer(toy, picky, Annotator("easy", [ADD], operands(0, 1))), net)
    assert decided["add"].annotator == "easy"


def test_an_annotator_may_refuse_while_it_annotates(net: GraphModule, toy: ModuleType) -> None:
    refuses = Annotator("refuses", [ADD], operands(0, 1), annotate=lambda *_: Refusal("no"))
    decided = decide(bare_quantizer(toy, refuses), net)
    assert (decided["add"].status, decided["add"].reason) == ("float", "no")
    assert not any(map(annotation_of, net.graph.nodes))


# An annotator on its own


def test_an_annotator_by_itself_returns_its_partitions(net: GraphModule, toy: ModuleType) -> None:
    partitions = annotate_with(toy.ANNOTATORS[:1], net, toy.int8("MinMaxObserver"))
    named = [[node.name for node in nodes] for nodes in partitions]
    assert named == [["linear", "relu", "fc_weight", "fc_bias"]]
    assert {node.name for node in net.graph.nodes if annotation_of(node)} == {"linear", "relu"}


def test_an_annotator_by_itself_accepts_a_filter(net: GraphModule, toy: ModuleType) -> None:
    def nothing(node: Node) -> bool:
        return False

    assert annotate_with(toy.ANNOTATORS[:1], net, toy.int8("MinMaxObserver"), nothing) == []
    assert not any(map(annotation_of, net.graph.nodes))


def test_an_annotator_by_itself_annotates_nothing_without_a_config(
    net: GraphModule, toy: ModuleType
) -> None:
    assert annotate_with(toy.ANNOTATORS[:1], net, None) == []
    assert not any(map(annotation_of, net.graph.nodes))


def test_annotators_by_themselves_leave_each_others_nodes(
    net: GraphModule, toy: ModuleType
) -> None:
    linear_relu, linear, *_ = toy.ANNOTATORS
    config = toy.int8("MinMaxObserver")
    assert len(annotate_with([linear_relu], net, config)) == 1
    assert annotate_with([linear], net, config) == []


# What it costs


@pytest.mark.parametrize("size", [4, 16])
def test_an_annotator_is_asked_once_for_each_operator_it_starts_from(
    size: int, capture: Capture, toy: ModuleType
) -> None:
    class Deep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(size):
                x = (x + x).sigmoid().tanh().neg()
            return x

    asked: list[str] = []

    def match(node: Node) -> None:
        asked.append(str(node.target))

    adds, never = Annotator("adds", [ADD], match), Annotator("never", ["aten.mul.Tensor"], match)
    decide(bare_quantizer(toy, adds, never), capture(Deep(), torch.zeros(2)))
    assert asked == [ADD] * size


def test_a_taken_operator_is_not_asked_about_again(net: GraphModule, toy: ModuleType) -> None:
    decide(bare_quantizer(toy, *toy.ANNOTATORS), net)
    asked: list[Node] = []
    late = Annotator("late", [ADD, LINEAR], asked.append)
    decide(bare_quantizer(toy, late), net)
    assert not asked
