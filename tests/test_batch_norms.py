"""Pins that a graph without batch norms computes what it did with them, whoever reads what."""

from __future__ import annotations

import pytest
import torch
from cases_folding import (
    IMAGE,
    NORMS,
    Call,
    Capture,
    constants,
    is_close,
    operators,
    with_statistics,
)
from torch import nn
from torch.nn import functional as F

from qreg.folding import folded
from qreg.mutation import keeping_state, written_buffers

CONV, LINEAR = "aten.conv2d.default", "aten.linear.default"
NO_STATISTICS = "aten._native_batch_norm_legit.no_stats"
MUL, ADD = "aten.mul.Tensor", "aten.add.Tensor"


@pytest.mark.parametrize("kind", NORMS)
def test_the_graph_computes_the_same_without_the_norm(kind: str, capture: Capture) -> None:
    make, shapes, left = NORMS[kind]
    module = with_statistics(make())
    inputs = [torch.randn(shape) for shape in shapes]
    model = folded(capture(module, *inputs))
    assert [name.split(".")[1] for name in operators(model)] == left
    assert is_close(module, model, *inputs)


def test_a_norm_without_running_statistics_stays_one_operator(capture: Capture) -> None:
    module = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False))
    x = torch.randn(IMAGE)
    model = folded(capture(with_statistics(module), x))
    assert operators(model)[:2] == [CONV, NO_STATISTICS]
    assert is_close(module, model, x)


def test_parameters_that_are_computed_from_an_input_stay_operators(capture: Capture) -> None:
    module = Call(
        lambda m, x, gain: F.batch_norm(m.conv(x), m.n.running_mean, m.n.running_var, gain),
        conv=nn.Conv2d(4, 6, 3),
        n=nn.BatchNorm2d(6),
    )
    inputs = torch.randn(IMAGE), torch.randn(6)
    model = folded(capture(with_statistics(module), *inputs))
    assert CONV in operators(model)
    assert "aten.batch_norm.default" not in operators(model)
    assert is_close(module, model, *inputs)


def test_the_decomposed_norm_is_folded_too() -> None:
    module = with_statistics(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    x = torch.randn(IMAGE)
    program = torch.export.export(module, (x,)).run_decompositions({})
    model = folded(program.module(check_guards=False))
    assert [name.split(".")[1] for name in operators(model)] in (["conv2d"], ["convolution"])
    assert is_close(module, model, x)


def test_factors_have_the_type_of_what_they_multiply(capture: Capture) -> None:
    module = with_statistics(nn.BatchNorm2d(4))
    x = torch.randn(IMAGE).bfloat16()
    model = folded(capture(module, x))
    with torch.no_grad():
        assert model(x).dtype is torch.bfloat16
        assert torch.allclose(model(x).float(), module(x).float(), rtol=2**-6, atol=2**-6)


def test_factors_are_one_per_channel(capture: Capture) -> None:
    model = folded(capture(with_statistics(nn.BatchNorm2d(4)), torch.randn(IMAGE)))
    assert operators(model) == [MUL, ADD]
    assert {tuple(each.shape) for each in constants(model).values()} == {(1, 4, 1, 1)}


def test_statistics_that_a_norm_updates_stay_those_of_the_caller() -> None:
    module = Call(
        lambda m, x: F.batch_norm(x, m.n.running_mean, m.n.running_var, training=True),
        n=nn.BatchNorm2d(4),
    )
    x = torch.randn(IMAGE)
    model = torch.export.export(module, (x,)).module(check_guards=False)
    assert written_buffers(model.graph) == {"n.running_mean", "n.running_var"}
    with keeping_state(model):
        wanted = model(x)
    assert torch.equal(folded(model)(x), wanted)
    assert torch.equal(module.n.running_mean, torch.zeros(4))
