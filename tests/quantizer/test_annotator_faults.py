"""Pins annotators that fail: they are named, skipped, and leave nothing in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from annotating import ADD, Capture, Net, bare_quantizer, decide
from torch import Tensor, nn
from torch.fx import GraphModule

from qreg import (
    Annotation,
    Annotator,
    Match,
    errors,
)
from qreg.annotators.annotate import standard
from qreg.annotators.patterns import operands
from qreg.graph.compat import annotate_node, annotation_of
from qreg.quantizer.annotation_pass import AnnotatorWarning


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
