"""Pins how changes are written into a copy of a graph: the original, and others, stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import qreg
from qreg import Change, Registry
from qreg.algorithms.changes import write
from qreg.errors import AlgorithmError
from qreg.graph.prepared import copied, float_graph, observers
from qreg.graph.values import constant_at, value_of
from qreg.pipeline.calibrate import calibrate, convert
from qreg.pipeline.prepare import prepare_again

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
WEIGHT, BIAS = 1, 2


class Shared(nn.Module):
    """One layer, with its weight and bias, called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.fc(x).relu())


def prepared(registry: Registry, model: nn.Module) -> GraphModule:
    made = qreg.prepare(model.eval(), qreg.get_quantizer("toy", registry=registry), (X,))
    calibrate(made, [(X,)], progress=False)
    return made


def constant(model: GraphModule, name: str, position: int) -> Tensor:
    (node,) = (each for each in model.graph.nodes if each.name == name)
    found = constant_at(node, position)
    assert found is not None
    return value_of(model, found).detach()


def test_a_constant_is_replaced_for_one_operator_alone(registry: Registry) -> None:
    model = prepared(registry, Shared())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weight, bias = torch.zeros(4, 4), torch.ones(4)
    changed = write(copied(model), [Change("linear", {WEIGHT: weight, BIAS: bias})], "prepared")
    assert torch.equal(constant(changed, "linear", WEIGHT), weight)
    assert torch.equal(constant(changed, "linear", BIAS), bias)
    fc = Shared().fc
    assert torch.equal(constant(changed, "linear_1", WEIGHT), fc.weight)
    assert torch.equal(constant(changed, "linear_1", BIAS), fc.bias)
    torch.testing.assert_close(float_graph(changed)(X), fc(torch.ones(5, 4)))
    torch.testing.assert_close(float_graph(model)(X), Shared()(X))
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_a_changed_weight_keeps_the_qparams_of_its_observer(registry: Registry) -> None:
    model = prepared(registry, Shared())
    half = Shared().fc.weight.detach() / 2
    changed = convert(write(copied(model), [Change("linear", {WEIGHT: half})], "prepared"))
    scales = [n.args[1] for n in changed.graph.nodes if "dequantize" in str(n.target)]
    scale = float(Shared().fc.weight.abs().max()) / 127
    assert sum(abs(each - scale) < 1e-6 for each in scales) == 2  # of both calls


def test_a_bias_is_added(registry: Registry) -> None:
    model = prepared(registry, nn.Sequential(nn.Linear(4, 3, bias=False)))
    shift = torch.arange(3.0)
    changed = write(copied(model), [Change("linear", {BIAS: shift})], "prepared")
    torch.testing.assert_close(float_graph(changed)(X), float_graph(model)(X) + shift)
    assert convert(changed)(X).shape == (5, 3)


def test_a_range_replaces_every_observer_that_is_shared(registry: Registry) -> None:
    model = prepared(registry, nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.ReLU()))
    low, high = torch.tensor(-0.5), torch.tensor(2.0)
    changed = write(copied(model), [Change("linear", range=(low, high))], "prepared")
    called = observers(changed)
    found = [each for node, each in called.items() if node.args[0].name == "linear"]
    assert found
    for each in found:
        scale, zero = each.calculate_qparams()
        assert float(scale) == pytest.approx(2.5 / 255)
        assert int(zero) == -128 + round(0.5 * 255 / 2.5)
    assert not any(
        type(each).__name__ == "FixedRangeObserver" for each in observers(model).values()
    )


def test_a_scale_multiplies_ahead_of_all_consumers(registry: Registry) -> None:
    reference = float_graph(prepared(registry, Shared()))
    factor = torch.tensor([1.0, 2.0, 3.0, 4.0])
    changed = write(copied(reference), [Change("linear", scale=factor)], "float")
    fc = Shared().fc
    torch.testing.assert_close(changed(X), fc((fc(X) * factor).relu()))


def test_what_stays_in_float_has_the_reason_of_the_algorithm(registry: Registry) -> None:
    reference = float_graph(prepared(registry, Shared()))
    changed = write(copied(reference), [Change("linear_1", in_float="too noisy")], "float")
    quantizer = qreg.get_quantizer("toy", registry=registry)
    prepare_again(changed, quantizer)
    decisions = {each.node: each for each in quantizer.decisions}
    assert decisions["linear"].quantized
    assert (decisions["linear_1"].status, decisions["linear_1"].reason) == ("float", "too noisy")


def test_preparing_again_without_a_change_is_the_same(registry: Registry) -> None:
    model = prepared(registry, Shared())
    quantizer = qreg.get_quantizer("toy", registry=registry)
    again = prepare_again(copied(float_graph(model)), quantizer)
    assert [str(n.target) for n in again.graph.nodes if n.op == "call_function"] == [
        str(n.target) for n in model.graph.nodes if n.op == "call_function"
    ]
    assert len(observers(again)) == len(observers(model))


@pytest.mark.parametrize("position", [0, 5])
def test_an_argument_that_is_not_constant_is_rejected(registry: Registry, position: int) -> None:
    model = prepared(registry, Shared())
    with pytest.raises(AlgorithmError, match="is not a constant"):
        write(copied(model), [Change("linear_1", {position: X})], "prepared")


def test_a_value_without_an_observer_has_no_range(registry: Registry) -> None:
    model = prepared(registry, nn.Sequential(nn.Tanh(), nn.Linear(4, 4)))
    zero = torch.tensor(0.0)
    with pytest.raises(AlgorithmError, match="which has no observer"):
        write(copied(model), [Change("input_1", range=(zero, zero))], "prepared")
