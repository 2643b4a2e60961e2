"""Pins AdaRound to the best of all ways to round up or down, which tiny layers can be tried for."""

from __future__ import annotations

import itertools

import pytest
import torch
from layered import KINDS, Subject, batches, integer_weights, subject
from torch import Tensor, nn

from qreg.algorithms import adaround, stock
from qreg.algorithms.hessian import Rounded, damped, rounded_layers

DAMPING = 0.01
ADAROUND = stock.adaround(steps=300, damping=DAMPING)


def only(given: Subject) -> tuple[Rounded, Tensor]:
    (layer,) = rounded_layers(given.candidate)
    return layer.double(), damped(
        given.calibration.statistics["moments"][layer.layer.name], DAMPING
    )


def error(layer: Rounded, integers: Tensor, hessian: Tensor) -> Tensor:
    """Return the squared error of the output for each row."""
    off = layer.weight - (integers - layer.zero) * layer.scale
    return torch.einsum("gri,gij,grj->gr", off, hessian, off)


@pytest.mark.parametrize("kind", ["linear", "depthwise"])
def test_it_is_near_the_best_of_all_roundings(kind: str) -> None:
    model, shape = KINDS[kind]
    layer, hessian = only(subject(model, batches(shape), "channel4", ADAROUND))
    columns = layer.weight.shape[2]
    floor, nearest = layer.integers().floor(), layer.integers().round()
    best = torch.full(layer.weight.shape[:2], torch.inf, dtype=torch.float64)
    for ups in itertools.product((0.0, 1.0), repeat=columns):
        up = (floor + torch.tensor(ups, dtype=torch.float64)).clamp(layer.lowest, layer.highest)
        best = torch.minimum(best, error(layer, up, hessian))
    found = error(layer, adaround.rounding(layer, hessian, 1000)(layer), hessian)
    rounded = error(layer, nearest.clamp(layer.lowest, layer.highest), hessian)
    assert (found <= rounded).all()
    assert found.sum() < best.sum() + 0.2 * (rounded.sum() - best.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_each_weight_is_rounded_down_or_up(kind: str) -> None:
    model, shape = KINDS[kind]
    given = subject(model, batches(shape), "channel4", ADAROUND)
    layer, hessian = only(given)
    chosen = adaround.rounding(layer, hessian, 300)(layer)
    off = chosen - layer.integers().clamp(layer.lowest, layer.highest)
    assert off.abs().max() < 1
    changed = given.changed(*given.changes(ADAROUND))
    (found,) = integer_weights(changed).values()
    expected = layer.values(lambda _: chosen) / layer.values(
        lambda _: torch.ones_like(chosen)
    )  # without the scale
    torch.testing.assert_close(found.float(), expected, atol=1e-3, rtol=0)


def test_without_steps_weights_are_rounded_to_nearest() -> None:
    layer, hessian = only(
        subject(nn.Sequential(nn.Linear(7, 5)), batches((4, 7)), "channel8", ADAROUND)
    )
    assert torch.equal(adaround.rounding(layer, hessian, 0)(layer), layer.integers().round())


def test_it_is_deterministic() -> None:
    model, shape = KINDS["conv2d"]
    given = subject(model, batches(shape), "channel8", ADAROUND)
    one, two = (given.changes(ADAROUND) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        assert all(map(torch.equal, first.constants.values(), second.constants.values()))


@pytest.mark.parametrize("config", ["channel8", "group4"])
def test_rows_are_rounded_in_parts_with_the_same_result(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = subject(nn.Sequential(nn.Linear(48, 24)), batches((4, 48)), config, ADAROUND)
    whole = given.changes(ADAROUND)
    monkeypatch.setattr("qreg.algorithms.hessian.PART", 8 * 48)
    (layer,) = rounded_layers(given.candidate)
    assert len([*layer.parts()]) == 3
    for before, after in zip(whole, given.changes(ADAROUND), strict=True):
        assert torch.equal(before.constants[1], after.constants[1])


def test_it_is_not_automatic() -> None:
    assert not stock.adaround().automatic
    assert "gptq" in stock.adaround().conflicts


def test_the_slope_is_that_of_autograd() -> None:
    v = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    up = adaround._rectified(v)
    (expected,) = torch.autograd.grad(up.sum(), v)
    torch.testing.assert_close(adaround._slope(v, up), expected)


def test_the_pull_is_that_of_autograd() -> None:
    """The regularizer is ``1 - |2 h - 1|**beta``; beta is 20 when it begins and 2 at the end."""
    for progress, beta in ((adaround.WARM_UP, 20.0), (1.0, 2.0)):
        up = torch.linspace(0.05, 0.95, 10, dtype=torch.float64, requires_grad=True)
        loss = adaround.WEIGHT_OF_REGULARIZER * (1 - (2 * up - 1).abs() ** beta).sum()
        (expected,) = torch.autograd.grad(loss, up)
        torch.testing.assert_close(adaround._pull(up, progress), expected)
    assert adaround._pull(torch.ones(3), 0.1).eq(0).all()
