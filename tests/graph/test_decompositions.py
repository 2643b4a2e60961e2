"""Decompositions compute what torch's operators compute, and leave none of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import export
from torch.nn import functional as F

from qreg.graph.decompositions import decomposed, into_planes, into_products

torch.manual_seed(0)
ROWS, VECTOR, CUBE = torch.randn(3, 4), torch.randn(4), torch.randn(5, 4, 4)
SQUARES, VOLUME = torch.randn(2, 3, 4), torch.randn(6, 2, 3, 2, 2)
NOT_A_NUMBER = torch.full((3,), torch.nan)

CASES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "bilinear": (lambda x: F.bilinear(x, x + 1, CUBE, VECTOR.new_ones(5)), ROWS),
    "bilinear without a bias": (lambda x: F.bilinear(x, x.cos(), CUBE), SQUARES),
    "addmv": (lambda x: torch.addmv(x[:, 0], x, VECTOR), ROWS),
    "addmv with factors": (lambda x: torch.addmv(x[:, 0], x, VECTOR, alpha=2, beta=0.5), ROWS),
    "addmv without its bias": (lambda x: torch.addmv(NOT_A_NUMBER, x, VECTOR, beta=0), ROWS),
    "addbmm": (lambda x: torch.addbmm(ROWS[:, :3], x, x.mT, alpha=3, beta=2), SQUARES),
    "conv3d": (lambda x: F.conv3d(x, VOLUME, None, 2, 1, (1, 2, 1)), torch.randn(2, 2, 7, 8, 9)),
    "conv3d of the same size": (
        lambda x: F.conv3d(x, VOLUME, torch.arange(6.0), padding="same", dilation=2),
        torch.randn(1, 2, 5, 6, 7),
    ),
    "conv3d in groups, without a batch": (
        lambda x: F.conv3d(x, VOLUME[:, :1], groups=2),
        torch.randn(2, 4, 5, 6),
    ),
}


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_that_of_the_operator(case: str) -> None:
    function, x = CASES[case]
    table = {**into_products(), **into_planes()}
    program = export(Call(function), (x,))
    assert any(node.target in table for node in program.graph.nodes)
    made = decomposed(program, table)
    assert not any(node.target in table for node in made.graph.nodes)
    torch.testing.assert_close(made.module()(x), function(x), atol=1e-4, rtol=1e-4)


def test_a_program_without_them_is_returned_itself() -> None:
    program = export(Call(torch.relu), (ROWS,))
    assert decomposed(program, into_products()) is program
