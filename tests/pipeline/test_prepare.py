"""Pins that a prepared model computes what the float model does, or the difference is named."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from cases_folding import Call, with_statistics
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantizeBase
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

import qreg
from qreg import Registry, get_quantizer
from qreg.errors import (
    InputError,
    NothingQuantizedError,
    PreparationError,
    UnknownModuleError,
)
from qreg.pipeline.prepare import folded_program

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    """A linear layer with a norm, whose output is read without the norm too."""
    module = Call(
        lambda m, x: (lambda y: m.norm(y) + y)(m.linear(x)),
        linear=nn.Linear(8, 5),
        norm=nn.BatchNorm1d(5),
    )
    return with_statistics(module)


def sqnr(wanted: Tensor, got: Tensor) -> float:
    noise = (wanted - got).square().sum()
    return float(10 * torch.log10(wanted.square().sum() / noise))


def transformed_by(toy: ModuleType, rewrite: Callable[[GraphModule], None]) -> Registry:
    """The toy backend with one more transform."""

    def transform(model: GraphModule, modes: object) -> GraphModule:
        rewrite(model)
        model.recompile()
        return model

    return toy.variant("toy", transforms=(transform,))


def test_the_steps_give_a_program_that_is_right(registry: Registry, toy: ModuleType) -> None:
    module = net()
    program = torch.export.export(module, (X,))
    prepared = qreg.prepare(program, get_quantizer("toy", registry=registry))
    qreg.calibrate(prepared, [X])
    lowered = qreg.lower(qreg.convert(prepared), (X,), backend="toy", registry=registry)
    with torch.no_grad():
        assert sqnr(module(X), toy.load(lowered.program)([X])[0]) > 30


def test_quantize_and_the_steps_agree(registry: Registry) -> None:
    module = net()
    prepared = qreg.prepare(module, get_quantizer("toy", registry=registry), X)
    qreg.calibrate(prepared, [X])
    result = qreg.quantize(module, X, calibration=[X], backend="toy", registry=registry)
    assert torch.equal(result.converted(X), qreg.convert(prepared)(X))


def test_the_reference_of_a_result_is_folded(registry: Registry) -> None:
    module = nn.utils.parametrizations.weight_norm(nn.Linear(8, 5))
    result = qreg.quantize(module, X, calibration=[X], backend="toy", registry=registry)
    names = [each.name for each in result.report.operators]
    assert names == ["linear"]
    assert len([n for n in result.reference.graph.nodes if n.op == "call_function"]) == 1


def test_the_quantizer_folds_what_torchao_leaves(registry: Registry) -> None:
    module = Call(lambda m, x: m.norm(m.linear(x).relu()), **dict(net().named_children()))
    graph = torch.export.export(module.eval(), (X,)).module(check_guards=False)
    quantizer = get_quantizer("toy", registry=registry)
    prepare_pt2e(graph, quantizer)
    assert [each.operator for each in quantizer.decisions] == [
        "aten.linear.default",
        "aten.relu.default",
        "aten.mul.Tensor",
        "aten.add.Tensor",
    ]


def test_training_keeps_norms_and_weights(registry: Registry) -> None:
    module = nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5))
    prepared = qreg.prepare(module, get_quantizer("toy", "qat", registry=registry), X)
    assert any("batch_norm" in str(node.target) for node in prepared.graph.nodes)
    assert any(isinstance(each, FakeQuantizeBase) for each in prepared.modules())


def test_the_model_of_the_caller_stays_as_it_is(registry: Registry) -> None:
    module = net().train()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    prepared = qreg.prepare(module, get_quantizer("toy", registry=registry), X)
    qreg.calibrate(prepared, [X + 1])
    assert module.training
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


def test_a_float_program_is_folded_and_a_converted_one_is_not(registry: Registry) -> None:
    program = torch.export.export(net(), (X,))
    names = [str(node.target) for node in folded_program(program, (X,)).graph.nodes]
    assert "aten.batch_norm.default" not in names
    result = qreg.quantize(net(), X, calibration=[X], backend="toy", registry=registry)
    converted = torch.export.export(result.converted, (X,))
    assert folded_program(converted, (X,)) is converted


# Transforms that change what the model computes


def double(model: GraphModule) -> None:
    for node in model.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default):
        node.target, node.args = torch.ops.aten.mul.Tensor, (node.args[0], 2.0)


def halve_a_weight(model: GraphModule) -> None:
    for node in model.graph.find_nodes(op="get_attr"):
        if str(node.target) == "2.weight":
            parameter = model.get_parameter("2.weight")
            with torch.no_grad():
                model.get_submodule("2").weight = nn.Parameter(parameter / 2)


def round_slightly(model: GraphModule) -> None:
    (output,) = model.graph.find_nodes(op="output")
    value = output.args[0][0]
    with model.graph.inserting_before(output):
        output.args = ((model.graph.call_function(torch.ops.aten.mul.Tensor, (value, 1 + 1e-6)),),)
    output.args[0][0].meta = dict(value.meta)


CHAIN = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh()).eval()


@pytest.mark.parametrize(("rewrite", "name"), [(double, "relu"), (halve_a_weight, "linear_1")])
def test_a_transform_that_changes_the_result_is_an_error(
    rewrite: Callable[[GraphModule], None], name: str, toy: ModuleType
) -> None:
    registry = transformed_by(toy, rewrite)
    given: dict[str, Any] = {"backend": "toy", "registry": registry}
    for run in (
        lambda: qreg.prepare(CHAIN, get_quantizer("toy", registry=registry), X),
        lambda: qreg.explain(CHAIN, X, **given),
        lambda: qreg.quantize(CHAIN, torch.zeros(6, 8), calibration=[X], **given),
    ):
        with pytest.raises(PreparationError, match=f"{name} of module") as caught:
            run()
        assert caught.value.operator == name
        assert caught.value.sqnr < 20


def test_rounding_is_no_difference(toy: ModuleType) -> None:
    registry = transformed_by(toy, round_slightly)
    prepared = qreg.prepare(CHAIN, get_quantizer("toy", registry=registry), X)
    with torch.no_grad():
        assert not torch.equal(prepared(X), CHAIN(X))


def cancelled(m: Any, x: Tensor) -> Tensor:
    """Nothing but the rounding of a norm that is folded."""
    normed: Tensor = m.norm(m.linear(x)) - (m.linear(x) * m.scale + m.shift)
    return normed


def cancelled_beside_others(m: Any, x: Tensor) -> tuple[Any, ...]:
    return 3, cancelled(m, x), None


@pytest.mark.parametrize("function", [cancelled, cancelled_beside_others])
def test_numbers_that_cancel_are_no_difference(
    function: Callable[..., Any], registry: Registry
) -> None:
    norm: Any = net().norm
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    shift = (norm.bias - norm.running_mean * scale).detach()
    module = Call(function, linear=nn.Linear(8, 5), norm=norm, scale=scale, shift=shift).eval()
    qreg.prepare(module, get_quantizer("toy", registry=registry), X)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (m.linear(x), torch.full_like(x, -torch.inf), x.isnan(), m.linear(x).argmax()),
        lambda m, x: (lambda y: y / (y - y))(m.linear(x)),
        lambda m, x: m.linear(dropped(x)),
        lambda m, x: (m.linear(x + m.count), m.count.add_(1))[0],
        lambda m, x: torch.view_as_real(torch.fft.fft(m.linear(x))),
    ],
    ids=["infinities, integers", "NaN and infinity", "random", "state", "complex"],
)
def test_other_values_than_numbers_are_compared_as_what_they_are(
    function: Callable[..., Any], registry: Registry
) -> None:
    module = Call(function, linear=nn.Linear(8, 5), count=torch.zeros(1))
    qreg.prepare(module, get_quantizer("toy", registry=registry), X)
    assert module.count == 0


def dropped(x: Tensor) -> Tensor:
    return nn.functional.dropout(x, training=True)


# What else is rejected


def test_a_module_needs_example_inputs(registry: Registry) -> None:
    with pytest.raises(InputError, match="example_inputs"):
        qreg.prepare(CHAIN, get_quantizer("toy", registry=registry))


def test_a_backend_may_be_given_by_name() -> None:
    with pytest.raises(qreg.errors.UnknownNameError, match="no_such_backend"):
        qreg.prepare(CHAIN, "no_such_backend", X)


def test_nothing_to_quantize_is_an_error(registry: Registry) -> None:
    with pytest.raises(NothingQuantizedError):
        qreg.prepare(nn.Sigmoid(), get_quantizer("toy", registry=registry), X)


@pytest.mark.parametrize(
    ("name", "layer"), [("norm", "wide"), ("pointwise", "wide"), ("inner", "wide"), ("none", None)]
)
def test_a_scope_for_a_folded_module_names_the_layer_that_took_it(
    registry: Registry, name: str, layer: str | None
) -> None:
    module = Call(
        lambda m, x: m.norm(m.wide(x) + m.inner(m.pointwise(x)) + x),
        wide=nn.Conv2d(4, 4, 3, padding=1, groups=4),
        pointwise=nn.Conv2d(4, 4, 1, groups=4),
        inner=nn.BatchNorm2d(4),
        norm=nn.BatchNorm2d(4),
    )
    image = torch.randn(1, 4, 5, 5)
    quantizer = get_quantizer("toy", registry=registry).set_module_name(name, None)
    with pytest.raises(UnknownModuleError) as caught:
        qreg.prepare(module.eval(), quantizer, (image,))
    assert caught.value.folded_into == layer
    assert (f"are folded into {layer!r} ahead" in str(caught.value)) is (layer is not None)
