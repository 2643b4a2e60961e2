"""Pins why an operator stays in float: one reason for each cause."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from annotating import ADD, LINEAR, RELU, Capture, Sum, bare_quantizer, decide
from torch import Tensor, nn
from torch.fx import GraphModule

from qreg import (
    Annotator,
    Match,
    Registry,
    get_quantizer,
)
from qreg.annotators.patterns import fused, operands, weighted
from qreg.graph.compat import annotation_of


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
    quantizer = get_quantizer("half", registry=toy.variant("half", dtypes=("torch.float16",)))
    graph_module = capture(Sum(), torch.zeros(2, dtype=torch.float16))
    assert decide(quantizer, graph_module)["add"].quantized


def test_float_because_of_the_mode(net: GraphModule, registry: Registry) -> None:
    decided = decide(get_quantizer("toy", "dynamic", registry=registry), net)
    assert decided["add"].reason == "add is quantized in qat and static mode, dynamic is dynamic"
    assert decided["linear"].quantized


def test_a_pattern_for_other_modes_does_not_replace_the_reason_of_a_rule(
    net: GraphModule, toy: ModuleType
) -> None:
    picky = Annotator("add", [ADD], operands(0, 1), rules=[lambda match, config: "not on Mondays"])
    alone = Annotator("add_weight", [ADD], operands(0, 1), modes=["weight"])
    for annotators in ((picky, alone), (alone, picky)):
        decided = decide(bare_quantizer(toy, *annotators), net)
        assert decided["add"].reason == "not on Mondays"


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
