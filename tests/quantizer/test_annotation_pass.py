"""Pins the pass over a graph: one Decision for each operator, annotations only where a match is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from qreg import (
    Annotation,
    Annotator,
    Decision,
    Match,
    Refusal,
    Registry,
    RegistryQuantizer,
    errors,
    get_quantizer,
)
from qreg.annotators.annotate import shared_in_and_out, shared_with_producer, standard
from qreg.annotators.patterns import fused, listed, operands, weighted
from qreg.graph.compat import annotate_node, annotation_of
from qreg.quantizer.annotation_pass import AnnotatorWarning, annotate_with

Capture = Callable[..., GraphModule]

LINEAR, RELU, ADD = "aten.linear.default", "aten.relu.default", "aten.add.Tensor"


class Net(nn.Module):
    """A linear with a ReLU, an add with a ReLU, and a sigmoid that no annotator knows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        fitted = self.fc(x).relu()
        return (fitted + x).relu_().sigmoid()


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


@pytest.fixture
def net(capture: Capture) -> GraphModule:
    return capture(Net(), torch.zeros(2, 3))


def decide(quantizer: RegistryQuantizer, graph_module: GraphModule) -> dict[str, Decision]:
    quantizer.annotate(graph_module)
    return {decision.node: decision for decision in quantizer.decisions}


def bare(
    toy: ModuleType, *annotators: Annotator, name: str = "bare", strict: bool = True
) -> Registry:
    """A backend with the configs of the toy and these annotators only."""
    backend = evolve(toy.BACKEND, name=name)
    plugin = toy.Extension([backend], toy.CONFIGS, annotators, extends=name)
    return Registry({"maker": plugin}, entry_points=False, strict=strict)


def bare_quantizer(
    toy: ModuleType, *annotators: Annotator, config: str = "minmax", strict: bool = True
) -> Any:
    return get_quantizer("bare", config, registry=bare(toy, *annotators, strict=strict))


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


def test_an_operator_may_run_on_the_parameters_of_its_input(
    net: GraphModule, registry: Registry
) -> None:
    decided = decide(get_quantizer("toy", registry=registry), net)["relu_"]
    assert (decided.status, decided.annotator) == ("shared", "relu")
    assert decided.quantized


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


# Why an operator stays in float


def test_float_because_nobody_has_an_annotator(net: GraphModule, registry: Registry) -> None:
    decided = decide(get_quantizer("toy", registry=registry), net)["sigmoid"]
    assert decided.reason == "toy has no annotator for aten.sigmoid.default"
    assert (decided.status, decided.annotator, decided.pattern) == ("float", None, ())


def test_float_because_no_config_covers_it(net: GraphModule, registry: Registry) -> None:
    quantizer = get_quantizer("toy", None, registry=registry)
    assert decide(quantizer, net)["add"].reason == "no config covers it"


def test_float_because_the_user_said_so(net: GraphModule, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_operator_type(ADD, None)
    assert decide(quantizer, net)["add"].reason == f"operator {ADD!r} keeps it in float"


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bfloat16], ids=str)
def test_float_because_of_the_type(
    dtype: torch.dtype, capture: Capture, registry: Registry
) -> None:
    graph_module = capture(Sum(), torch.zeros(2, dtype=dtype))
    decided = decide(get_quantizer("toy", registry=registry), graph_module)["add"]
    assert decided.reason == f"x is {dtype}: toy quantizes torch.float32"
    assert not any(map(annotation_of, graph_module.graph.nodes))


def test_a_backend_may_quantize_from_other_types(capture: Capture, toy: ModuleType) -> None:
    backend = evolve(toy.BACKEND, name="half", dtypes=("torch.float16",))
    plugin = toy.Extension([backend], toy.CONFIGS, toy.ANNOTATORS, extends="half")
    quantizer = get_quantizer("half", registry=Registry({"half": plugin}, entry_points=False))
    graph_module = capture(Sum(), torch.zeros(2, dtype=torch.float16))
    assert decide(quantizer, graph_module)["add"].quantized


def test_float_because_of_the_mode(net: GraphModule, registry: Registry) -> None:
    decided = decide(get_quantizer("toy", "dynamic", registry=registry), net)
    assert decided["add"].reason == "add is quantized in qat and static mode, dynamic is dynamic"
    assert decided["linear"].quantized


def test_float_because_a_rule_refuses(net: GraphModule, toy: ModuleType) -> None:
    picky = Annotator("add", [ADD], operands(0, 1), rules=[lambda match, config: "not on Mondays"])
    assert decide(bare_quantizer(toy, picky), net)["add"].reason == "not on Mondays"


def test_a_rule_sees_the_match_and_the_config(net: GraphModule, toy: ModuleType) -> None:
    seen: list[tuple[str, object]] = []

    def rule(match: Match, config: object) -> None:
        seen.append((match.anchor.name, config))

    decide(bare_quantizer(toy, Annotator("add", [ADD], operands(0, 1), rules=[rule])), net)
    assert seen == [("add", toy.int8("MinMaxObserver"))]


def test_float_because_of_an_overlapping_pattern(net: GraphModule, toy: ModuleType) -> None:
    first = Annotator("relu_add", [RELU], fused(operands(0), [ADD]))
    second = Annotator("linear_relu", [LINEAR], fused(weighted(), [RELU]))
    decided = decide(bare_quantizer(toy, first, second), net)
    assert decided["linear"].reason == "relu belongs to the pattern relu_add already"
    assert decided["relu"].pattern == ("relu", "add")


def test_float_because_part_of_the_pattern_is_configured_differently(
    net: GraphModule, toy: ModuleType
) -> None:
    only = Annotator("linear_relu", [LINEAR], fused(weighted(), [RELU]))
    quantizer = bare_quantizer(toy, only).set_module_name("fc", "histogram")
    assert decide(quantizer, net)["linear"].reason == (
        "relu, a part of the pattern, is configured differently"
    )


def test_float_because_of_the_filter_function(net: GraphModule, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry)
    quantizer.set_filter_function(lambda node: node.name != "add")
    assert decide(quantizer, net)["add"].reason == "the filter function leaves add out"


def test_float_because_no_pattern_fits(capture: Capture, registry: Registry) -> None:
    class AddOne(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1.0

    graph_module = capture(AddOne(), torch.zeros(2))
    decided = decide(get_quantizer("toy", registry=registry), graph_module)["add"]
    assert decided.reason.startswith("no pattern of toy fits this")


def test_float_because_there_is_nothing_to_share(capture: Capture, registry: Registry) -> None:
    graph_module = capture(nn.ReLU(), torch.zeros(2))
    decided = decide(get_quantizer("toy", registry=registry), graph_module)["relu"]
    assert decided.reason.startswith("its input is not quantized")


def test_float_because_it_was_annotated_before(net: GraphModule, registry: Registry) -> None:
    decide(get_quantizer("toy", registry=registry), net)
    decided = decide(get_quantizer("toy", registry=registry), net)
    assert decided["linear"].reason == "was annotated before"
    assert "has no annotator" in decided["sigmoid"].reason


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


class Chain(nn.Module):
    """Operators of two annotators that share, one behind the other."""

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


# What goes wrong


def boom(*_: object) -> Any:
    raise ZeroDivisionError("boom")


def a_stranger(match: Match, config: object) -> Sequence[Annotation]:
    return [Annotation(next(iter(match.output.users)))]


def a_strange_edge(match: Match, config: Any) -> Sequence[Annotation]:
    return [Annotation(match.output, {match.output: config.input_activation})]


@pytest.mark.parametrize(
    "fault",
    [
        {"match": boom},
        {"match": lambda node: True},
        {"rules": [boom]},
        {"annotate": boom},
        {"annotate": lambda match, config: None},
        {"annotate": lambda match, config: ["add"]},
        {"annotate": a_stranger},
        {"annotate": a_strange_edge},
    ],
    ids=[
        "match raises",
        "match returns no Match",
        "rule raises",
        "annotate raises",
        "annotate returns nothing",
        "annotate returns no Annotation",
        "annotates a stranger",
        "annotates a strange edge",
    ],
)
def test_a_failing_annotator_is_named_with_its_distribution(
    fault: dict[str, Any], net: GraphModule, toy: ModuleType
) -> None:
    bad = Annotator(**{"name": "bad", "targets": [ADD], "match": operands(0, 1), **fault})
    with pytest.raises(errors.AnnotatorError) as caught:
        decide(bare_quantizer(toy, bad), net)
    error = caught.value
    assert (error.annotator, error.distribution, error.node) == ("bad", "in-process", "add")


@pytest.mark.parametrize("part", ["match", "annotate"])
def test_the_error_of_an_annotator_has_its_cause(
    part: str, net: GraphModule, toy: ModuleType
) -> None:
    bad = Annotator(**{"name": "bad", "targets": [ADD], "match": operands(0, 1), part: boom})
    with pytest.raises(errors.AnnotatorError, match="boom") as caught:
        decide(bare_quantizer(toy, bad), net)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def writes_itself(match: Match, config: Any) -> list[Annotation]:
    annotate_node(match.inputs[0], None)
    return []


def a_rule_that_writes(match: Match, config: Any) -> None:
    annotate_node(match.inputs[1], None)


LEFT_OUT = [
    {"rules": [a_rule_that_writes]},
    {"match": boom},
    {"rules": [boom]},
    {"annotate": boom},
    {"match": lambda node: True},
    {"annotate": lambda match, config: [Annotation(match.inputs[0])]},
    {"annotate": writes_itself},
]


@pytest.mark.parametrize("fault", LEFT_OUT)
def test_a_failing_annotator_is_left_out_and_the_others_do_their_work(
    fault: dict[str, Any], capture: Capture, toy: ModuleType
) -> None:
    bad = Annotator(**{"name": "bad", "targets": [ADD], "match": operands(0, 1), **fault})
    linear = toy.ANNOTATORS[0]
    quantizer = bare_quantizer(toy, bad, linear, strict=False)
    with pytest.warns(AnnotatorWarning, match="annotator 'bad' of distribution 'in-process'"):
        decisions = decide(quantizer, capture(Net(), torch.zeros(2, 3)))
    assert decisions["linear"].annotator == linear.name
    assert decisions["add"].status == "float"
    assert decisions["add"].reason == "annotator bad of in-process failed on the model"


def test_what_a_failing_annotator_leaves_goes_to_the_next(
    capture: Capture, toy: ModuleType
) -> None:
    bad = Annotator("bad", [ADD], operands(0, 1), annotate=boom, before=["add"])
    quantizer = bare_quantizer(toy, *toy.ANNOTATORS, bad, strict=False)
    with pytest.warns(AnnotatorWarning):
        decisions = decide(quantizer, capture(Net(), torch.zeros(2, 3)))
    assert decisions["add"].annotator == "add"


def test_nothing_is_left_of_a_failing_annotators_work(capture: Capture, toy: ModuleType) -> None:
    """It fails at the second match, after the first was annotated."""
    seen: list[Match] = []

    def once(match: Match, config: Any) -> Any:
        seen.append(match)
        return standard(match, config) if len(seen) == 1 else boom()

    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1) + x

    graph_module = capture(Sums(), torch.zeros(2))
    quantizer = bare_quantizer(
        toy, Annotator("bad", [ADD], operands(0), annotate=once), strict=False
    )
    with pytest.warns(AnnotatorWarning):
        quantizer.annotate(graph_module)
    assert len(seen) == 2
    assert not any(map(annotation_of, graph_module.graph.nodes))


def test_an_annotator_that_writes_by_itself_is_found_out(net: GraphModule, toy: ModuleType) -> None:
    bad = Annotator("bad", [ADD], operands(0, 1), annotate=writes_itself)
    with pytest.raises(errors.AnnotatorError, match="wrote an annotation to relu itself") as caught:
        decide(bare_quantizer(toy, toy.ANNOTATORS[0], bad), net)
    assert caught.value.annotator == "bad"


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


def test_the_shared_spec_points_at_the_producer(net: GraphModule, registry: Registry) -> None:
    decide(get_quantizer("toy", registry=registry), net)
    nodes = {node.name: node for node in net.graph.nodes}
    found = annotation_of(nodes["relu_"])
    assert found is not None
    assert found.output_qspec == SharedQuantizationSpec(nodes["add"])
