"""Pins that weights on a grid are kept as integers, also where groups have separate scales."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qreg.recipes.grids import on_a_grid
from qreg.recipes.pinned import QParams

INTEGERS = torch.randint(
    -8, 8, (6, 8), dtype=torch.int8, generator=torch.Generator().manual_seed(0)
)


def qparams(*shape: int) -> QParams:
    scale = torch.rand(shape, generator=torch.Generator().manual_seed(1)) + 0.1
    return QParams(scale, torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shape", [(1,), (6,), (6, 1), (6, 2), (6, 4)])
def test_values_of_integers_are_found_on_their_grid(shape: tuple[int, ...], sign: int) -> None:
    known = qparams(*shape)
    scale: Tensor = known.scale.mul_(sign)
    if len(shape) == 2:
        scale = scale.repeat_interleave(8 // shape[1], 1)
    elif shape == (6,):
        scale = scale[:, None]
    weight = (INTEGERS.double() * scale.double()).float() + 0.0  # no algorithm gives -0.0
    found = on_a_grid("linear", weight, {"weight_of_linear": known})
    assert found is not None
    grid, integers = found
    assert torch.equal(integers, INTEGERS)
    assert torch.equal(grid.values(integers, {"weight_of_linear": known}), weight)


def test_other_values_are_not() -> None:
    assert on_a_grid("linear", torch.rand(6, 8), {"weight_of_linear": qparams(6, 2)}) is None
    assert on_a_grid("linear", torch.rand(6, 7), {"weight_of_linear": qparams(6, 2)}) is None
