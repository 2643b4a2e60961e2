"""Pins how a foreign torchao Quantizer is wrapped: last, within the scopes, and with Decisions."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from attrs import evolve
from quantizing import TwoLinears
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationConfig,
    Quantizer,
)

import qreg
from qreg import Registry, errors, get_quantizer
from qreg.graph.compat import annotation_of

KEY = "quantization_annotation"


class Foreign(Quantizer):  # type: ignore[misc]
    """Annotates every linear and tanh that is free, and counts what is asked of it."""

    calls: list[str]

    def __init__(self, config: QuantizationConfig) -> None:
        super().__init__()
        self.config = config
        type(self).calls = []

    def transform_for_annotation(self, model: GraphModule) -> GraphModule:
        self.calls.append("transform")
        return model

    def annotate(self, model: GraphModule) -> GraphModule:
        self.calls.append("annotate")
        for node in model.graph.nodes:
            if str(node.target) in ("aten.linear.default", "aten.tanh.default"):
                self._annotate(node)
        return model

    def _annotate(self, node: Any) -> None:
        if node.meta.get(KEY) is not None and node.meta[KEY]._annotated:
            return
        specs = {node.args[0]: self.config.input_activation}
        if len(node.args) > 1:
            specs[node.args[1]] = self.config.weight
        node.meta[KEY] = QuantizationAnnotation(
            specs, self.config.output_activation, _annotated=True
        )

    def validate(self, model: GraphModule) -> None:
        self.calls.append("validate")

    def prepare_obs_or_fq_callback(self, model: GraphModule, observers: dict[Any, Any]) -> None:
        self.calls.append("callback")


class Greedy(Foreign):
    """One that does not look whether a node is annotated."""

    def _annotate(self, node: Any) -> None:
        node.meta.pop(KEY, None)
        super()._annotate(node)


X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[Foreign, Greedy])
def registry(request: pytest.FixtureRequest, toy: ModuleType) -> Registry:
    """A backend of a foreign quantizer, to which a third party adds an annotator for add."""
    backend = evolve(toy.BACKEND, name="foreign", quantizer=request.param)
    owner = toy.Extension([backend], toy.CONFIGS, lowering=toy.lower, extends="foreign")
    add = next(each for each in toy.ANNOTATORS if each.name == "add")
    linear = next(each for each in toy.ANNOTATORS if each.name == "linear")
    third = toy.Extension(annotators=[add, evolve(linear, match=second_only)], extends="foreign")
    return Registry({"owner": owner, "third": third}, entry_points=False)


def second_only(node: Any) -> Any:
    return qreg.patterns.weighted()(node) if node.name == "linear_1" else None


def decided(registry: Registry, capture: Callable[..., GraphModule], **names: Any) -> Any:
    quantizer = get_quantizer("foreign", registry=registry)
    for name, config in names.items():
        quantizer.set_module_name(name, config)
    graph_module = capture(TwoLinears(), X)
    quantizer.annotate(quantizer.transform_for_annotation(graph_module))
    decisions = {each.node: each for each in quantizer.decisions}
    annotated = {node.name for node in graph_module.graph.nodes if annotation_of(node)}
    assert annotated == {name for name, each in decisions.items() if each.quantized}
    return decisions


def test_third_parties_go_first_and_their_nodes_are_left_alone(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    found = decided(registry, capture)
    foreign = {"linear", "tanh"}
    names = {name: each.annotator for name, each in found.items()}
    assert names["linear_1"] == "linear"
    assert names["add"] == "add"
    assert {name for name, by in names.items() if by in ("Foreign", "Greedy")} == foreign
    assert found["linear"].config == "minmax"
    assert found["linear"].distribution == "in-process"
    assert found["linear"].reason == "minmax, by the global config"


def test_scopes_hold_for_a_foreign_quantizer_too(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    found = decided(registry, capture, first=None)
    assert found["linear"].status == "float"
    assert found["linear"].reason == "name 'first' keeps it in float"
    assert found["tanh"].quantized


def test_each_scope_gets_its_own_config(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    found = decided(registry, capture, first="histogram")
    assert (found["linear"].config, found["tanh"].config) == ("histogram", "minmax")


def test_what_the_foreign_quantizer_leaves_says_so(toy: ModuleType, capture: Any) -> None:
    backend = evolve(toy.BACKEND, name="foreign", quantizer=Foreign)
    owner = toy.Extension([backend], toy.CONFIGS, extends="foreign")
    found = decided(Registry({"owner": owner}, entry_points=False), capture)
    assert found["add"].reason == "Foreign does not annotate it"


def rejected(match: Any, config: Any) -> str:
    return "the kernel reads rows only"


def test_the_reason_of_a_rule_stays_beside_that_of_the_foreign_quantizer(
    toy: ModuleType, capture: Any
) -> None:
    backend = evolve(toy.BACKEND, name="foreign", quantizer=Foreign)
    add, linear = (
        next(each for each in toy.ANNOTATORS if each.name == name) for name in ("add", "linear")
    )
    annotators = [
        evolve(add, rules=[rejected]),
        evolve(linear, match=second_only, rules=[rejected]),
    ]
    owner = toy.Extension([backend], toy.CONFIGS, annotators, extends="foreign")
    found = decided(Registry({"owner": owner}, entry_points=False), capture)
    assert found["add"].reason == "the kernel reads rows only; Foreign does not annotate it"
    assert found["linear_1"].annotator == "Foreign"
    assert found["linear_1"].reason == "minmax, by the global config"


def test_what_an_earlier_quantizer_annotated_is_not_claimed(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    first, second = (get_quantizer("foreign", registry=registry) for _ in range(2))
    graph_module = capture(TwoLinears(), X)
    first.annotate(graph_module)
    second.annotate(graph_module)
    assert {each.status for each in first.decisions} == {"annotated"}
    assert {(each.status, each.reason) for each in second.decisions} == {
        ("float", "was annotated before")
    }


def test_everything_that_torchao_asks_is_passed_on(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    quantizer = get_quantizer("foreign", registry=registry)
    prepare_pt2e(capture(TwoLinears(), X), quantizer)
    made = registry.backend("foreign").value.quantizer
    assert made.calls == ["transform", "annotate", "validate", "callback"]


def test_a_config_that_no_scope_has_any_more_is_not_asked(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    quantizer = get_quantizer("foreign", "histogram", registry=registry).set_global("minmax")
    prepare_pt2e(capture(TwoLinears(), X), quantizer)
    made = registry.backend("foreign").value.quantizer
    assert made.calls == ["transform", "annotate", "validate", "callback"]


def test_the_filter_function_comes_on_top_for_a_foreign_quantizer_too(
    registry: Registry, capture: Callable[..., GraphModule]
) -> None:
    quantizer = get_quantizer("foreign", registry=registry)
    quantizer.set_filter_function(lambda node: node.name != "tanh")
    graph_module = capture(TwoLinears(), X)
    quantizer.annotate(graph_module)
    decisions = {each.node: each for each in quantizer.decisions}
    assert decisions["tanh"].reason == "the filter function leaves tanh out"
    assert not decisions["tanh"].quantized
    assert decisions["linear"].quantized


class Failing(Foreign):
    def annotate(self, model: GraphModule) -> GraphModule:
        raise ZeroDivisionError("boom")


def test_what_a_foreign_quantizer_raises_names_its_distribution(
    toy: ModuleType, capture: Callable[..., GraphModule]
) -> None:
    backend = evolve(toy.BACKEND, name="foreign", quantizer=Failing)
    owner = toy.Extension([backend], toy.CONFIGS, extends="foreign")
    quantizer = get_quantizer("foreign", registry=Registry({"owner": owner}, entry_points=False))
    graph_module = capture(TwoLinears(), X)
    with pytest.raises(
        errors.PluginError, match="'in-process' is broken, in annotate: it raised"
    ) as caught:
        quantizer.annotate(graph_module)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not any(map(annotation_of, graph_module.graph.nodes))


def test_the_whole_way_works_with_a_foreign_quantizer(registry: Registry) -> None:
    result = qreg.quantize(
        TwoLinears(), X, backend="foreign", calibration=[X], registry=registry, progress=False
    )
    assert result.verification is not None
    assert 15 < result.verification.to_float[0].sqnr < 60
    assert result.audit is not None
    assert result.audit.defects == ()


def test_a_foreign_quantizer_that_finds_nothing_is_an_error(registry: Registry) -> None:
    with pytest.raises(errors.NothingQuantizedError, match="does not annotate it"):
        qreg.quantize(
            nn.Sigmoid(), X, backend="foreign", calibration=[X], registry=registry, progress=False
        )
