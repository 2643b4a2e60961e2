"""Pins that a program that was exported in training mode is refused, with its operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import qreg
from qreg import Registry
from qreg.errors import InputError
from qreg.programs.export import exported
from qreg.programs.training import check_eval

ROW = torch.randn(2, 4)
IMAGES = torch.randn(2, 3, 8, 8)
SEQUENCE = torch.randn(2, 5, 4)


class Call(nn.Module):
    def __init__(self, function: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        p = 0.1 if self.training else 0.0
        return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=p)


def branch(self: Any, x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda x: self.drop(x), lambda x: x - 1, (x,))


MODELS = {
    "dropout": (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), ROW, r"aten\.dropout.*module '1'"),
    "dropout in place": (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5, True)), ROW, "dropout_"),
    "dropout of channels": (nn.Dropout2d(0.5), IMAGES, "feature_dropout"),
    "alpha dropout": (nn.AlphaDropout(0.5), ROW, "alpha_dropout"),
    "batch norm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGES, "batch_norm"),
    "instance norm": (nn.InstanceNorm2d(3, track_running_stats=True), IMAGES, "instance_norm"),
    "rrelu": (nn.RReLU(), ROW, "rrelu"),
    "lstm": (
        Call(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(4, 4, 2, dropout=0.1)),
        SEQUENCE,
        "ls",
    ),
    "attention": (Attention(), SEQUENCE, "scaled_dot_product_attention"),
    "in a branch": (Call(branch, drop=nn.Dropout(0.5)), ROW, "dropout"),
}


def program(name: str, *, training: bool) -> ExportedProgram:
    model, example, _ = MODELS[name]
    return torch.export.export(model.train(training), (example,))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_active_in_training_alone_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=MODELS[name][2]) as raised:
        check_eval(program(name, training=True))
    assert "in training mode (expected a model in eval mode)" in str(raised.value)
    assert "Call model.eval() before torch.export.export" in str(raised.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_in_eval_mode_is_accepted(name: str) -> None:
    check_eval(program(name, training=False))


def test_it_is_found_after_decomposition_too() -> None:
    with pytest.raises(InputError, match="batch_norm"):
        check_eval(program("batch norm", training=True).run_decompositions())


HARMLESS = {
    "a dropout of nothing": (nn.Dropout(0.0), ROW),
    "a norm of each batch": (nn.BatchNorm1d(4, track_running_stats=False), ROW),
    "an instance norm": (nn.InstanceNorm2d(3), IMAGES),
    "an lstm without dropout": (Call(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(4, 4)), SEQUENCE),
    "an lstm of one layer": (Call(lambda s, x: s.rnn(x)[0], rnn=nn.GRU(4, 4)), SEQUENCE),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_training_does_not_change_is_accepted(name: str) -> None:
    model, example = HARMLESS[name]
    check_eval(torch.export.export(model.train(), (example,)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quantize": partial(qreg.quantize, calibration=[ROW], backend="toy"),
    "explain": partial(qreg.explain, backend="toy"),
    "lower": partial(qreg.lower, backend="toy"),
    "prepare": lambda found, registry: qreg.prepare(
        found, qreg.get_quantizer("toy", registry=registry)
    ),
    "compare": partial(qreg.compare, backends=["toy"], calibration=[ROW]),
    "verify": lambda found, registry: qreg.verify(
        b"", found, [ROW], backend="toy", registry=registry
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_refuses_it_ahead_of_any_work(name: str, registry: Registry) -> None:
    with pytest.raises(InputError, match=r"dropout.*training mode.*model\.eval\(\)"):
        FUNCTIONS[name](program("dropout", training=True), registry=registry)


def test_training_is_what_a_config_for_training_is_for(registry: Registry) -> None:
    quantizer = qreg.get_quantizer("toy", "qat", registry=registry)
    assert qreg.prepare(program("dropout", training=True), quantizer) is not None


def test_a_norm_of_each_batch_is_accepted_after_decomposition_too() -> None:
    model, example = HARMLESS["a norm of each batch"]
    check_eval(torch.export.export(model.eval(), (example,)).run_decompositions())


def test_a_module_is_exported_in_eval_mode_whatever_its_mode() -> None:
    model = MODELS["dropout"][0].train()
    found, _ = exported(model, ROW, None)
    check_eval(found)
    assert model[1].training


def test_modules_in_a_traced_graph_are_exported_in_eval_mode_too() -> None:
    traced = torch.fx.symbolic_trace(MODELS["batch norm"][0].train())
    found, _ = exported(traced, IMAGES, None)
    check_eval(found)
    assert traced.get_submodule("1").training


def always(self: Any, x: Tensor) -> Tensor:
    return self.linear(nn.functional.dropout(x, 0.5))


def test_a_graph_whose_bodies_are_exported_graphs_is_exported() -> None:
    graph = program("in a branch", training=False).module()
    bodies = [each for each in graph.children() if isinstance(each, torch.fx.GraphModule)]
    assert bodies
    for body in bodies:
        body.eval = graph.eval  # which raises, as convert_pt2e leaves the bodies of loops
    found, _ = exported(graph, ROW, None)
    assert found.module()(ROW).shape == ROW.shape


def test_a_function_that_is_active_in_eval_mode_has_another_remedy(registry: Registry) -> None:
    model = Call(always, linear=nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"which eval\(\) does not change: .*self\.training"):
        qreg.quantize(model, ROW, calibration=[ROW], backend="toy", registry=registry)


def test_a_model_that_is_random_on_purpose_is_quantized_unverified(registry: Registry) -> None:
    model = Call(always, linear=nn.Linear(4, 4))
    options: dict[str, Any] = {"backend": "toy", "registry": registry, "calibration": [ROW]}
    assert qreg.quantize(model, ROW, verify=False, **options).verification is None
