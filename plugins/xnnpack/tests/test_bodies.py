"""Branches and bodies of control flow stay in float beside int8 operators, and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.map import map as map_over
from torch.nn import functional as F

import qreg


class Flow(nn.Module):
    """A convolution ahead of control flow, with a linear for its branches."""

    def __init__(self, flow: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flow = flow
        self.conv, self.linear = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(8, 8)
        self.slope = nn.Parameter(torch.full((1,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self, self.conv(x))


def linear_or_double(m: Any, y: Tensor) -> Tensor:
    return torch.cond(y.mean() > 0, m.linear, lambda y: y * 2, (y,))


def delegates_own(m: Any, y: Tensor) -> Tensor:
    """Operators that the delegate has, and a pad that no kernel has."""
    return torch.cond(
        y.mean() > 0,
        lambda y: F.prelu(F.hardswish(y), m.slope),
        lambda y: F.pad(y, (-1, 1)),
        (y,),
    )


def mapped(m: Any, y: Tensor) -> Tensor:
    result: Tensor = map_over(lambda row: F.hardswish(m.linear(row)), y)
    return result


def nested(m: Any, y: Tensor) -> Tensor:
    def inner(y: Tensor) -> Tensor:
        return torch.cond(y.std() > 2, m.linear, F.hardswish, (y,))

    return torch.cond(y.mean() > 0, inner, lambda y: y * 2, (y,))


def decibels(wanted: Tensor, found: Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (wanted - found).square().sum()))


@pytest.mark.parametrize("flow", [linear_or_double, delegates_own, mapped, nested])
def test_each_branch_runs_close_to_float(flow: Callable[[Any, Tensor], Tensor]) -> None:
    model = Flow(flow).eval()
    generator = torch.Generator().manual_seed(1)
    batches = [(torch.randn(2, 2, 8, 8, generator=generator) + s,) for s in (3, -3, 2, -2)]
    with torch.no_grad():
        assert {bool(model.conv(x).mean() > 0) for (x,) in batches} == {True, False}
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False)
    assert {each.node: each.status for each in result.decisions}["conv2d"] == "annotated"
    with torch.no_grad():
        assert min(decibels(model(x), result.run(x)) for (x,) in batches) > 20
