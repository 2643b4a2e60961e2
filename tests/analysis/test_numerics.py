"""Pins the noise of each operator, and the float graph that it is measured against."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import ObserverBase
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

import qreg
from qreg import Registry, get_quantizer
from qreg.analysis.numerics import numerics
from qreg.graph.prepared import float_graph


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).relu_().softmax(-1) + x


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def prepared(registry: Registry) -> Any:
    program = torch.export.export(Net().eval(), (X,))
    quantizer = get_quantizer("toy", registry=registry)
    return prepare_pt2e(program.module(check_guards=False), quantizer)


def test_the_float_graph_computes_what_the_float_model_does(prepared: Any) -> None:
    assert torch.equal(float_graph(prepared)(X), Net().eval()(X))


def test_the_float_graph_has_no_observer_and_the_prepared_one_keeps_its_own(prepared: Any) -> None:
    found = float_graph(prepared)
    assert not any(isinstance(each, ObserverBase) for each in found.modules())
    assert any(isinstance(each, ObserverBase) for each in prepared.modules())


def test_the_float_graph_outlives_the_conversion(prepared: Any) -> None:
    found = float_graph(prepared)
    prepared(X)
    qreg.convert(prepared)
    assert torch.equal(found(X), Net().eval()(X))


def test_every_operator_that_both_graphs_have_is_measured(prepared: Any) -> None:
    reference = float_graph(prepared)
    prepared(X)
    noise = numerics(reference, qreg.convert(prepared), [(X,)])
    assert [each.node for each in noise] == ["linear", "relu_", "softmax", "add"]


def test_samples_are_taken_together(prepared: Any) -> None:
    reference = float_graph(prepared)
    prepared(X)
    converted = qreg.convert(prepared)
    one, other = X[:4], X[4:]
    apart = numerics(reference, converted, [(one,), (other,)])
    together = numerics(reference, converted, [(X,)])
    for each, whole in zip(apart, together, strict=True):
        assert each.sqnr == pytest.approx(whole.sqnr)
        assert each.largest == pytest.approx(whole.largest)


def test_the_noise_of_an_operator_is_that_of_its_definition(prepared: Any) -> None:
    reference = float_graph(prepared)
    prepared(X)
    converted = qreg.convert(prepared)
    (linear, *_) = numerics(reference, converted, [(X,)])
    scale, zero = next(
        node.args[1:3]
        for node in converted.graph.nodes
        if "quantize_per_tensor" in str(node.target) and node.args[0].op == "placeholder"
    )
    weight = Net().fc.weight.detach()
    step = float(weight.abs().max()) / 127
    codes = torch.clamp(torch.round(weight / step), -127, 127)
    x = (torch.clamp(torch.round(X / scale) + zero, -128, 127) - zero) * scale
    got = nn.functional.linear(x, codes * step, Net().fc.bias)
    wanted = Net().fc(X)
    sqnr = 10 * math.log10(float(wanted.square().sum() / (wanted - got).square().sum()))
    assert linear.sqnr == pytest.approx(sqnr, abs=0.01)
    assert linear.largest == pytest.approx(float((wanted - got).abs().max()), rel=1e-3)


def test_changes_in_place_do_not_spoil_what_is_compared(prepared: Any) -> None:
    reference = float_graph(prepared)
    prepared(X)
    noise = numerics(reference, qreg.convert(prepared), [(X,)])
    assert all(each.sqnr > 20 for each in noise)
