"""Pins which config holds for an operator: name before type before operator before everywhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from qreg import Registry, RegistryQuantizer, SupportedConfig, errors, get_quantizer
from qreg.errors import UnknownOperatorWarning
from qreg.quantizer.registry_quantizer import UnknownModuleWarning

Capture = Callable[..., GraphModule]
Setup = Callable[[RegistryQuantizer], Any]
Under = Callable[[str | None, Setup], dict[str, str | None]]

aten = torch.ops.aten


class Head(nn.Module):
    """A custom module type around two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))


class Net(nn.Module):
    """``stem`` is called twice; ``blocks`` is a ModuleList, which is never called itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(3, 3)), Head()])
        self.clip = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.clip(x + x)


# The operators of Net by the names of their nodes.
STEM, BLOCK, HEAD = ["linear", "linear_1"], ["linear_2"], ["linear_3", "linear_4"]
LINEARS = [*STEM, *BLOCK, *HEAD]
ALL = [*LINEARS, "add", "relu"]


@pytest.fixture(scope="module", params=[False, True], ids=["non-strict", "strict"])
def graph(request: pytest.FixtureRequest, capture: Capture) -> Callable[[], GraphModule]:
    inputs = torch.zeros(2, 3)
    return lambda: capture(Net(), inputs, strict=request.param)


@pytest.fixture
def under(graph: Callable[[], GraphModule], registry: Registry) -> Under:
    """The name of the config of each operator of Net; None for those that stay in float."""

    def configs(everywhere: str | None, setup: Setup) -> dict[str, str | None]:
        quantizer = get_quantizer("toy", everywhere, registry=registry)
        setup(quantizer)
        quantizer.annotate(graph())
        return {decision.node: decision.config for decision in quantizer.decisions}

    return configs


def only(nodes: list[str], config: str | None, elsewhere: str | None) -> dict[str, str | None]:
    return {name: config if name in nodes else elsewhere for name in ALL}


def test_the_global_config_holds_everywhere(under: Under) -> None:
    assert under("minmax", lambda q: q) == only(ALL, "minmax", None)


def test_without_a_config_everything_stays_in_float(under: Under) -> None:
    assert under(None, lambda q: q) == only(ALL, None, None)


@pytest.mark.parametrize("config", ["histogram", None])
def test_an_operators_config_beats_the_global_one(config: str | None, under: Under) -> None:
    found = under("minmax", lambda q: q.set_operator_type(aten.linear.default, config))
    assert found == only(LINEARS, config, "minmax")


@pytest.mark.parametrize("config", ["histogram", None])
def test_a_types_config_beats_that_of_an_operator(config: str | None, under: Under) -> None:
    def setup(quantizer: RegistryQuantizer) -> None:
        quantizer.set_operator_type(aten.linear.default, "minmax").set_module_type(Head, config)

    assert under("minmax", setup) == only(HEAD, config, "minmax")


@pytest.mark.parametrize("config", ["histogram", None])
def test_a_names_config_beats_that_of_a_type(config: str | None, under: Under) -> None:
    def setup(quantizer: RegistryQuantizer) -> None:
        quantizer.set_module_type(Head, "minmax").set_module_name("blocks.1", config)

    assert under("minmax", setup) == only(HEAD, config, "minmax")


@pytest.mark.parametrize("config", ["histogram", None])
def test_a_longer_name_beats_its_parent(config: str | None, under: Under) -> None:
    def setup(quantizer: RegistryQuantizer) -> None:
        quantizer.set_module_name("blocks.1.outer", config).set_module_name("blocks.1", "minmax")

    assert under(None, setup) == {**only(HEAD, "minmax", None), "linear_4": config}


@pytest.mark.parametrize("config", ["histogram", None])
def test_an_inner_type_beats_an_outer_one(config: str | None, under: Under) -> None:
    def setup(quantizer: RegistryQuantizer) -> None:
        quantizer.set_module_type(nn.Linear, config).set_module_type(Head, "minmax")

    assert under("minmax", setup) == only(LINEARS, config, "minmax")


def test_a_config_lifts_a_scope_out_of_float(under: Under) -> None:
    assert under(None, lambda q: q.set_module_name("stem", "minmax")) == only(STEM, "minmax", None)


def test_the_later_config_of_one_scope_holds(under: Under) -> None:
    def setup(quantizer: RegistryQuantizer) -> None:
        quantizer.set_module_name("stem", None).set_module_name("stem", "histogram")

    assert under("minmax", setup) == only(STEM, "histogram", "minmax")


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("stem", STEM),
        ("blocks", [*BLOCK, *HEAD]),
        ("blocks.0", BLOCK),
        ("blocks.0.0", BLOCK),
        ("blocks.1.inner", ["linear_3"]),
        ("clip", ["relu"]),
        ("", ALL),
    ],
)
def test_a_module_is_named_as_in_named_modules(name: str, nodes: list[str], under: Under) -> None:
    assert name in dict(Net().named_modules())
    found = under("minmax", lambda q: q.set_module_name(name, None))
    assert found == only(nodes, None, "minmax")


@pytest.mark.parametrize("type_", [Head, f"{__name__}.Head"], ids=["class", "name"])
def test_a_type_is_a_class_or_its_name(type_: type | str, under: Under) -> None:
    found = under("minmax", lambda q: q.set_module_type(type_, None))
    assert found == only(HEAD, None, "minmax")


@pytest.mark.parametrize(
    "operator", [aten.add.Tensor, aten.add, aten.add_.Tensor, "aten.add.Tensor", "aten.add"]
)
def test_an_operator_is_an_overload_a_packet_or_a_name(operator: Any, under: Under) -> None:
    found = under("minmax", lambda q: q.set_operator_type(operator, None))
    assert found["add"] is None


def test_an_overload_beats_its_packet(under: Under) -> None:
    def setup(quantizer: RegistryQuantizer) -> None:
        quantizer.set_operator_type(aten.add, None).set_operator_type(aten.add.Tensor, "histogram")

    assert under("minmax", setup)["add"] == "histogram"


def test_an_operator_that_shares_can_be_kept_in_float(under: Under) -> None:
    found = under("minmax", lambda q: q.set_operator_type(aten.relu.default, None))
    assert found == only(["relu"], None, "minmax")


def test_what_shares_with_a_float_operator_stays_in_float(under: Under) -> None:
    found = under("minmax", lambda q: q.set_operator_type(aten.add.Tensor, None))
    assert found == only(["add", "relu"], None, "minmax")


def test_the_filter_function_goes_on_top(under: Under) -> None:
    def keep(node: Node) -> bool:
        return node.name != "linear_1"

    found = under(None, lambda q: q.set_module_name("stem", "minmax").set_filter_function(keep))
    assert found == only(["linear"], "minmax", None)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).add_(x).relu_()


def test_an_in_place_operator_is_configured_as_its_functional_form(
    capture: Capture, registry: Registry
) -> None:
    quantizer = get_quantizer("toy", registry=registry)
    quantizer.set_operator_type("aten.add.Tensor", None)
    quantizer.annotate(capture(InPlace(), torch.zeros(2, 3)))
    status = {decision.operator: decision.status for decision in quantizer.decisions}
    assert status["aten.linear.default"] == "annotated"
    assert status["aten.add_.Tensor"] == "float"


class Fusable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act = nn.Linear(3, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fc(x))


def patterns_of(quantizer: RegistryQuantizer, graph_module: GraphModule) -> list[tuple[str, ...]]:
    quantizer.annotate(graph_module)
    return [decision.pattern for decision in quantizer.decisions]


def test_an_operators_config_takes_the_rest_of_its_pattern_along(
    capture: Capture, registry: Registry
) -> None:
    quantizer = get_quantizer("toy", None, registry=registry)
    quantizer.set_operator_type(aten.linear.default, "minmax")
    found = patterns_of(quantizer, capture(Fusable(), torch.zeros(2, 3)))
    assert found == [("linear", "relu")] * 2


def test_a_pattern_does_not_reach_into_another_config(capture: Capture, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("fc", "histogram")
    found = patterns_of(quantizer, capture(Fusable(), torch.zeros(2, 3)))
    assert found == [("linear",), ("relu",)]


def test_a_pattern_does_not_reach_into_float(capture: Capture, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("act", None)
    found = patterns_of(quantizer, capture(Fusable(), torch.zeros(2, 3)))
    assert found == [("linear",), ()]


def test_an_operators_config_does_not_reach_into_a_module_of_its_own(
    capture: Capture, registry: Registry
) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_module_name("act", None)
    quantizer.set_operator_type(aten.linear.default, "minmax")
    found = patterns_of(quantizer, capture(Fusable(), torch.zeros(2, 3)))
    assert found == [("linear",), ()]


def test_one_config_name_in_two_scopes_is_one_config(capture: Capture, toy: Any) -> None:
    fresh = SupportedConfig("fresh", "", "static", lambda: toy.int8_of_its_own())
    plugins = {"toy": toy, "more": toy.Extension(configs=[fresh])}
    quantizer = get_quantizer("toy", "fresh", registry=Registry(plugins, entry_points=False))
    quantizer.set_module_name("fc", "fresh")
    found = patterns_of(quantizer, capture(Fusable(), torch.zeros(2, 3)))
    assert found == [("linear", "relu")] * 2


class Outermost(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + x) + x


def test_a_model_without_submodules_is_configured_by_its_own_type(
    capture: Capture, registry: Registry
) -> None:
    quantizer = get_quantizer("toy", None, registry=registry).set_module_type(Outermost, "minmax")
    quantizer.annotate(capture(Outermost(), torch.zeros(2)))
    assert [decision.status for decision in quantizer.decisions] == ["annotated"] * 2


def test_an_operator_without_a_module_does_not_speak_for_the_model(
    capture: Capture, registry: Registry
) -> None:
    graph_module = capture(Outermost(), torch.zeros(2))
    first = next(node for node in graph_module.graph.nodes if node.op == "call_function")
    del first.meta["nn_module_stack"]  # as of an operator that a transform put in
    quantizer = get_quantizer("toy", None, registry=registry)
    quantizer.set_module_type(Outermost, "minmax").annotate(graph_module)
    assert [decision.status for decision in quantizer.decisions] == ["float", "annotated"]


def test_an_unknown_name_is_an_error_with_near_ones(under: Under) -> None:
    with pytest.raises(errors.UnknownModuleError, match=r"'block\.1'.*Near: ") as caught:
        under("minmax", lambda q: q.set_module_name("block.1", None))
    assert "blocks.1" in caught.value.near


def test_an_unknown_name_without_near_ones_is_an_error_with_some_of_the_model(under: Under) -> None:
    with pytest.raises(errors.UnknownModuleError, match=r"'zzz'. Some: .*blocks") as caught:
        under("minmax", lambda q: q.set_module_name("zzz", None))
    assert caught.value.near == ()
    assert 0 < len(caught.value.known) <= 5


def test_an_unknown_type_is_an_error(under: Under) -> None:
    with pytest.raises(errors.UnknownModuleError, match=r"type 'torch\.nn\.modules\.conv\.Conv2d'"):
        under("minmax", lambda q: q.set_module_type(nn.Conv2d, None))


def test_an_unknown_name_can_be_a_warning(
    graph: Callable[[], GraphModule], registry: Registry
) -> None:
    quantizer = get_quantizer("toy", registry=registry, unknown_modules="warn")
    quantizer.set_module_name("nowhere", None)
    with pytest.warns(UnknownModuleWarning, match="'nowhere'"):
        quantizer.annotate(graph())
    assert all(decision.quantized for decision in quantizer.decisions)


@pytest.mark.parametrize(
    ("operator", "near"),
    [
        ("aten.relu6.default", "aten.relu.default"),
        (aten.add.Scalar, "aten.add.Tensor"),
        (aten.softmax, None),
    ],
)
def test_an_operator_that_the_model_does_not_have_is_a_warning_with_those_it_has(
    operator: object, near: str | None, graph: Callable[[], GraphModule], registry: Registry
) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_operator_type(operator, None)
    with pytest.warns(UnknownOperatorWarning, match="the scope has no effect") as caught:
        quantizer.annotate(graph())
    (warning,) = (each.message for each in caught if isinstance(each.message, UserWarning))
    assert isinstance(warning, UnknownOperatorWarning)
    assert warning.known == tuple(sorted({each.operator for each in quantizer.decisions}))
    assert next(iter(warning.near), None) == near
    assert all(decision.quantized for decision in quantizer.decisions)


@pytest.mark.parametrize("operator", [aten.relu, aten.relu.default, "aten.add", "aten.add.Tensor"])
def test_an_operator_that_the_model_has_is_no_warning(
    operator: object, graph: Callable[[], GraphModule], registry: Registry
) -> None:
    quantizer = get_quantizer("toy", registry=registry).set_operator_type(operator, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantizer.annotate(graph())
    assert not all(decision.quantized for decision in quantizer.decisions)


def test_a_config_that_is_none_of_its_kinds_is_refused(registry: Registry) -> None:
    with pytest.raises(errors.ConfigError, match="expected a name, a QuantizationConfig, or None"):
        get_quantizer("toy", 8, registry=registry)
