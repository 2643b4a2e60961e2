"""Pins the scope of one call of an operator: its module, its name and its ordinal."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from annotating import bare_quantizer, decide
from attrs import evolve
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from qreg import Annotator, Registry, errors, get_quantizer, prepare
from qreg.algorithms.changes import write
from qreg.annotators.annotate import shared_with_producer
from qreg.annotators.patterns import operands
from qreg.graph.prepared import float_graph
from qreg.graph.recurrence import without_recurrence
from qreg.pipeline.prepare import prepare_again
from qreg.plugins.types.algorithm import Change
from qreg.quantizer.registry_quantizer import RegistryQuantizer, UnknownModuleWarning

Capture = Callable[..., GraphModule]
LINEAR, RELU = "aten.linear.default", "aten.relu.default"


class Net(nn.Module):
    """One linear layer called three times, each with a ReLU; and additions in the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.fc(x).relu_() + x
        return x


@pytest.fixture
def graph(capture: Capture) -> GraphModule:
    return capture(Net(), torch.zeros(2, 3))


@pytest.fixture
def quantizer(registry: Registry) -> RegistryQuantizer:
    return get_quantizer("toy", "minmax", registry=registry)


def configs(quantizer: RegistryQuantizer) -> dict[str, str | None]:
    return {decision.node: decision.config for decision in quantizer.decisions}


def test_decisions_count_calls_in_a_module_and_each_address_finds_its_own(
    graph: GraphModule, capture: Capture, registry: Registry, quantizer: RegistryQuantizer
) -> None:
    quantizer.annotate(graph)
    found = [(each.module, each.operator, each.ordinal) for each in quantizer.decisions]
    relu = "aten.relu_.default"  # as the model calls it
    assert found == [
        ("fc", LINEAR, 0), ("", relu, 0), ("", "aten.add.Tensor", 0),
        ("fc", LINEAR, 1), ("", relu, 1), ("", "aten.add.Tensor", 1),
        ("fc", LINEAR, 2), ("", relu, 2), ("", "aten.add.Tensor", 2),
    ]  # fmt: skip
    for each in quantizer.decisions:
        one = get_quantizer("toy", "minmax", registry=registry)
        one.set_operator(each.module, each.operator, each.ordinal, "histogram")
        one.annotate(capture(Net(), torch.zeros(2, 3)))
        pattern = each.pattern or (each.node,)
        chosen = {name for name, config in configs(one).items() if config == "histogram"}
        assert each.node in chosen
        assert chosen == set(pattern)


@pytest.mark.parametrize("operator", [LINEAR, "aten.relu_.default", torch.ops.aten.relu])
@pytest.mark.parametrize("config", ["histogram", None])
def test_the_scope_of_any_operator_applies_to_the_whole_pattern(
    operator: Any, config: str | None, graph: GraphModule, quantizer: RegistryQuantizer
) -> None:
    quantizer.set_operator("fc" if operator == LINEAR else "", operator, 1, config)
    found = decide(quantizer, graph)
    assert {name for name, each in found.items() if each.config == config} == {
        "linear_1",
        "relu__1",
    }
    if config is None:
        assert "keeps it in float" in found["relu__1"].reason
        assert "call 1 of 'aten." in found["linear_1"].reason


def test_a_call_beats_a_module_name_and_differing_calls_take_a_pattern_apart(
    graph: GraphModule, quantizer: RegistryQuantizer
) -> None:
    quantizer.set_module_name("fc", None).set_operator("fc", LINEAR, 0, "histogram")
    quantizer.set_operator("fc", LINEAR, 1, "histogram").set_operator("", RELU, 1, None)
    found = {name: each.config for name, each in decide(quantizer, graph).items()}
    assert (found["linear"], found["linear_1"], found["linear_2"]) == ("histogram",) * 2 + (None,)
    assert found["relu__1"] is None


def test_one_call_is_quantized_in_a_float_model(graph: GraphModule, registry: Registry) -> None:
    quantizer = get_quantizer("toy", None, registry=registry)
    quantizer.set_operator("fc", LINEAR, 2, "minmax").annotate(graph)
    chosen = {name for name, config in configs(quantizer).items() if config}
    assert chosen == {"linear_2", "relu__2"}
    assert quantizer.kept_in_float(graph) == set(configs(quantizer)) - {"linear_2"}


@pytest.mark.parametrize(
    ("address", "near"),
    [
        (("fc", LINEAR, 3), ("calls 0 to 2 of 'aten.linear.default' in module 'fc'",)),
        (("fc", "aten.linear_relu", 0), None),
        (("fc", "aten.add.Tensor", 0), ("calls 0 to 2 of 'aten.linear.default' in module 'fc'",)),
        (("fv", LINEAR, 0), ("calls 0 to 2 of 'aten.linear.default' in module 'fc'",)),
    ],
)
def test_a_call_that_is_not_there_is_an_error_with_those_that_are(
    address: Any, near: tuple[str, ...] | None, graph: GraphModule, quantizer: RegistryQuantizer
) -> None:
    if near is None:
        with pytest.raises(errors.ConfigError, match="is not an operator"):
            quantizer.set_operator(*address, None)
        return
    quantizer.set_operator(*address, None)
    with pytest.raises(errors.UnknownCallError) as raised:
        quantizer.annotate(graph)
    assert raised.value.near == near
    assert isinstance(raised.value, errors.UnknownModuleError)


def test_an_unknown_call_is_a_warning_if_asked_for(graph: GraphModule, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry, unknown_modules="warn")
    with pytest.warns(UnknownModuleWarning, match="call 7 of"):
        quantizer.set_operator("fc", LINEAR, 7, None).annotate(graph)


@pytest.mark.parametrize("ordinal", [-1, True, 1.0, "0"])
def test_an_ordinal_is_an_integer_from_zero(ordinal: Any, quantizer: RegistryQuantizer) -> None:
    with pytest.raises(errors.ConfigError, match="expected an integer from 0"):
        quantizer.set_operator("fc", LINEAR, ordinal, None)


def test_operators_that_an_algorithm_inserts_shift_no_ordinal(registry: Registry) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.tanh() * 2.0 + x) * x

    quantizer = get_quantizer("toy", "minmax", registry=registry)
    quantizer.set_operator("", "aten.mul.Tensor", 1, None)
    prepared = prepare(Scaled(), quantizer, (torch.ones(3),))
    before = {each.node: each.ordinal for each in quantizer.decisions}
    scaled = write(float_graph(prepared), [Change("tanh", scale=torch.ones(1))], "float")
    again = quantizer.for_one_run()
    prepare_again(scaled, again)
    after = {each.node: each.ordinal for each in again.decisions}
    (inserted,) = after.keys() - before.keys()
    assert after == {**before, inserted: -1}


class Looped(nn.Module):
    """An addition ahead of a loop, and one in it."""

    def forward(self, x: Tensor) -> Tensor:
        from torch._higher_order_ops.while_loop import while_loop

        def body(count: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            return count + 1, value + value

        return while_loop(lambda count, _: count < 3, body, (torch.tensor(0), x + x))[1]


def test_bodies_of_loops_go_on_counting(registry: Registry) -> None:
    def prepared(quantizer: RegistryQuantizer) -> None:
        program = torch.export.export(Looped(), (torch.zeros(2, 3),))
        prepare_pt2e(program.module(), quantizer)  # annotates the bodies of the program itself

    plain = get_quantizer("toy", "minmax", registry=registry)
    prepared(plain)
    adds = {each.node: each.ordinal for each in plain.decisions if "add" in each.operator}
    assert sorted(adds.values()) == list(range(len(adds)))
    assert len(adds) > 1
    last = max(adds, key=lambda name: adds[name])
    one = get_quantizer("toy", "minmax", registry=registry)
    one.set_operator("", "aten.add.Tensor", adds[last], "histogram")
    prepared(one)
    assert [name for name, config in configs(one).items() if config == "histogram"] == [last]
    beyond = get_quantizer("toy", "minmax", registry=registry)
    beyond.set_operator("", "aten.add.Tensor", len(adds), None)
    with pytest.raises(errors.UnknownCallError):
        prepared(beyond)


def test_products_of_a_recurrent_layer_are_one_call(toy: ModuleType) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = nn.LSTM(3, 3, 2, batch_first=True), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.lstm(x)[0])  # type: ignore[no-any-return]

    registry = toy.variant("unrolling", transforms=(without_recurrence,))
    quantizer = get_quantizer("unrolling", "minmax", registry=registry)
    quantizer.set_operator("lstm", LINEAR, 1, None)
    prepare(Two(), quantizer, (torch.zeros(1, 4, 3),))
    products = [each for each in quantizer.decisions if each.operator == LINEAR]
    own = {each.ordinal: each for each in products if each.module == "lstm"}
    assert sorted(own) == [0, 1, 2, 3]  # of the input and of the state, in two layers
    assert [number for number, each in sorted(own.items()) if not each.quantized] == [1]


def test_a_wrapped_quantizer_gets_the_scope_of_a_call(toy: ModuleType, capture: Capture) -> None:
    def wrapped(config: Any) -> RegistryQuantizer:
        adds = Annotator("add", ["aten.add.Tensor"], operands(0, 1))
        relus = Annotator("relu", [RELU], operands(0), annotate=shared_with_producer)
        inner = bare_quantizer(toy, adds, relus)
        return inner.set_global(config)  # type: ignore[no-any-return]

    backend = evolve(toy.BACKEND, name="wrapping", quantizer=wrapped)
    plugin = toy.Extension([backend], toy.CONFIGS, (), extends="wrapping")
    registry = Registry({"wrapping": plugin}, entry_points=False)
    quantizer = get_quantizer("wrapping", "minmax", registry=registry)
    quantizer.set_operator("", "aten.add.Tensor", 1, None)
    found = decide(quantizer, capture(Net(), torch.zeros(2, 3)))
    adds = [each for each in found.values() if each.operator == "aten.add.Tensor"]
    assert [each.config for each in adds] == ["minmax", None, "minmax"]
    assert [each.ordinal for each in adds] == [0, 1, 2]
