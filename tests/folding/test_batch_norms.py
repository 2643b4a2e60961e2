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
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

import qreg
from qreg import Registry, get_quantizer
from qreg.folding.fold import folded
from qreg.graph.mutation import keeping_state, written_buffers

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


def test_a_norm_with_computed_parameters_stays_one_operator(
    capture: Capture,
) -> None:
    module = Call(
        lambda m, x, gain: F.batch_norm(m.conv(x), m.n.running_mean, m.n.running_var, gain),
        conv=nn.Conv2d(4, 6, 3),
        n=nn.BatchNorm2d(6),
    )
    inputs = torch.randn(IMAGE), torch.randn(6)
    model = folded(capture(with_statistics(module), *inputs))
    assert operators(model)[:2] == [CONV, "aten.native_batch_norm.default"]
    assert is_close(module, model, *inputs)


def test_the_decomposed_norm_is_folded_too() -> None:
    module = with_statistics(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    x = torch.randn(IMAGE)
    program = torch.export.export(module, (x,)).run_decompositions({})
    model = folded(program.module(check_guards=False))
    assert [name.split(".")[1] for name in operators(model)] in (["conv2d"], ["convolution"])
    assert is_close(module, model, x)


def test_a_norm_over_tokens_is_folded_where_their_number_varies() -> None:
    module = with_statistics(
        Call(
            lambda m, x: m.norm(m.linear(x).flatten(0, 1)),
            linear=nn.Linear(8, 6),
            norm=nn.BatchNorm1d(6),
        )
    )
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (torch.randn(2, 5, 8),), dynamic_shapes=(shapes,))
    model = folded(program.module(check_guards=False))
    assert not {MUL, NO_STATISTICS} & set(operators(model))
    assert is_close(module, model, torch.randn(3, 5, 8))


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


class Steps(nn.Module):
    """A linear layer and a norm in the body of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.out = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        def step(state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            state = self.norm(self.linear(state)) + x
            return state, state.clone()

        output: torch.Tensor = self.out(scan(step, state, x)[1])
        return output


def test_a_norm_in_the_body_of_a_loop_is_prepared(registry: Registry) -> None:
    module = with_statistics(Steps())
    inputs = torch.randn(2, 8), torch.randn(3, 2, 8)
    quantizer = get_quantizer("toy", registry=registry)
    prepared = qreg.prepare(module, quantizer, inputs)
    (reason,) = [d.reason for d in quantizer.decisions if "batch_norm" in d.operator]
    assert "computed while the model runs" in reason
    assert is_close(module, prepared, *inputs)
