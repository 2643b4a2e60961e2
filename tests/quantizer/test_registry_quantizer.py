"""Pins the quantizer as torchao uses it: transforms, validation, and several quantizers as one."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from qreg import ComposedQuantizer, Registry, errors, get_quantizer

Capture = Callable[..., GraphModule]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + x


class Frozen(nn.Module):
    """Operators under ``no_grad``, one of them inside another."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = x + x
            with torch.enable_grad():
                y = y + x
        return y.sigmoid()


X = torch.tensor([[1.0, -2.0, 3.0]])


def test_a_backends_transforms_see_the_graph_and_the_modes(
    capture: Capture, toy: ModuleType
) -> None:
    seen: list[object] = []

    def transform(model: GraphModule, modes: frozenset[str]) -> GraphModule:
        seen.append(modes)
        return model

    registry = toy.variant("other", transforms=[transform])
    quantizer = get_quantizer("other", registry=registry)
    prepare_pt2e(capture(Net(), X), quantizer.set_module_name("fc", "dynamic"))
    assert seen == [{"static", "dynamic"}]


def test_operators_under_no_grad_come_out_and_compute_the_same(
    capture: Capture, registry: Registry
) -> None:
    graph_module = capture(Frozen(), X)
    transformed = get_quantizer("toy", registry=registry).transform_for_annotation(graph_module)
    called = [str(n.target) for n in transformed.graph.nodes if n.op == "call_function"]
    assert called == ["aten.add.Tensor", "aten.add.Tensor", "aten.sigmoid.default"]
    assert torch.equal(transformed(X), Frozen()(X))


def test_nothing_quantized_is_an_error_of_validation(capture: Capture, registry: Registry) -> None:
    with pytest.raises(errors.NothingQuantizedError, match=r"aten\.sigmoid\.default"):
        prepare_pt2e(capture(nn.Sigmoid(), X), get_quantizer("toy", registry=registry))


def test_nothing_quantized_can_be_allowed(capture: Capture, registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry, allow_float=True)
    prepared = prepare_pt2e(capture(nn.Sigmoid(), X), quantizer)
    assert torch.equal(prepared(X), X.sigmoid())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_without_a_range_is_named(
    value: float, capture: Capture, registry: Registry
) -> None:
    net = Net()
    with torch.no_grad():
        net.fc.weight[0, 0] = value
    with pytest.raises(errors.InputError, match=r"'fc\.weight'.*in module 'fc'.*NaN or infinity"):
        prepare_pt2e(capture(net, X), get_quantizer("toy", registry=registry))


def test_a_weight_without_a_range_may_stay_in_float(capture: Capture, registry: Registry) -> None:
    net = Net()
    with torch.no_grad():
        net.fc.weight[0, 0] = float("inf")
    quantizer = get_quantizer("toy", registry=registry).set_module_name("fc", None)
    prepare_pt2e(capture(net, X), quantizer)
    assert [decision.status for decision in quantizer.decisions] == ["float", "annotated"]


def test_of_composed_quantizers_the_earlier_has_the_operator(
    capture: Capture, registry: Registry
) -> None:
    first = get_quantizer("toy", None, registry=registry).set_module_name("fc", "histogram")
    second = get_quantizer("toy", registry=registry)
    prepare_pt2e(capture(Net(), X), ComposedQuantizer(first, second))
    assert [decision.config for decision in first.decisions] == ["histogram", None]
    assert [decision.config for decision in second.decisions] == [None, "minmax"]


def test_composed_quantizers_validate_each_part(capture: Capture, registry: Registry) -> None:
    nothing = get_quantizer("toy", None, registry=registry)
    with pytest.raises(errors.NothingQuantizedError):
        prepare_pt2e(
            capture(Net(), X), ComposedQuantizer(get_quantizer("toy", registry=registry), nothing)
        )


def test_the_setters_return_the_quantizer(registry: Registry) -> None:
    quantizer = get_quantizer("toy", registry=registry)
    assert quantizer.set_global("minmax") is quantizer
    assert quantizer.set_module_name("a", None) is quantizer
    assert quantizer.set_module_type(nn.Linear, None) is quantizer
    assert quantizer.set_operator_type("aten.add", None) is quantizer
    assert quantizer.set_filter_function(None) is quantizer
