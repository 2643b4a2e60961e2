"""Operands of one dimension, biases of any shape, images without a batch: all of them run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from rows import Call
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg.verification.metrics import compare
from qreg_xnnpack.runtime import load

Function = Callable[[Any, Tensor], Tensor]

# Each computes something of rows of shape (3, 8), with parameters of the module.
OPERATORS: dict[str, Function] = {
    "linear by a vector": lambda m, x: F.linear(x, m.vector),
    "linear of a vector": lambda m, x: F.linear(x[0], m.matrix, m.four),
    "linear of two vectors": lambda m, x: F.linear(x[0], m.vector),
    "linear with one number": lambda m, x: F.linear(x, m.matrix, m.one),
    "linear with a number without dimensions": lambda m, x: F.linear(x, m.matrix, m.number),
    "linear with a bias for each row": lambda m, x: F.linear(x, m.matrix, m.rows),
    "bilinear": lambda m, x: F.bilinear(x, x * 2, m.cube, m.four),
    "bilinear without a bias": lambda m, x: F.bilinear(x[None], x[None] + 1, m.cube),
    "addmm": lambda m, x: torch.addmm(m.four, x, m.matrix.T),
    "addmm with a matrix": lambda m, x: torch.addmm(m.rows, x, m.matrix.T),
    "addmm with one row": lambda m, x: torch.addmm(m.four[None], x, m.matrix.T),
    "addmm with factors": lambda m, x: torch.addmm(m.four, x, m.matrix.T, alpha=2, beta=0.5),
    "addmm without its bias": lambda m, x: torch.addmm(m.four, x, m.matrix.T, beta=0),
    "addmv": lambda m, x: torch.addmv(m.four, m.matrix, x[0], alpha=2, beta=0.5),
    "addbmm": lambda m, x: torch.addbmm(m.rows, x[None], m.matrix.T[None]),
    "baddbmm": lambda m, x: torch.baddbmm(m.four, x[None], m.matrix.T[None], alpha=2, beta=0.5),
    "mv": lambda m, x: torch.mv(x, m.vector),
    "dot": lambda m, x: torch.dot(x[0], m.vector),
    "inner": lambda m, x: torch.inner(x, m.matrix),
    "outer": lambda m, x: torch.outer(x[0], m.vector),
    "matmul of a vector and a matrix": lambda m, x: x[0] @ m.matrix.T,
    "matmul of vectors": lambda m, x: x[0] @ m.vector,
    "matmul of three dimensions and one": lambda m, x: x[None] @ m.vector,
    "conv1d without a batch": lambda m, x: m.conv1d(x),
    "conv2d and pools without a batch": lambda m, x: F.avg_pool2d(
        F.max_pool2d(m.conv2d(x[:, None] * torch.ones(8, 1)).relu(), 2), 3
    ),
    "conv3d without a batch": lambda m, x: m.conv3d(x[:2, None, None] * torch.ones(3, 3, 1)),
    "transposed conv1d without a batch": lambda m, x: m.up(x),
}


class Odd(nn.Module):
    """All of the operators, on rows that each scales by a separate factor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shapes: dict[str, tuple[int, ...]] = {
            "vector": (8,),
            "matrix": (4, 8),
            "cube": (4, 8, 8),
            "four": (4,),
            "rows": (3, 4),
            "one": (1,),
            "number": (),
        }
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))
        self.conv1d, self.conv2d = nn.Conv1d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.conv3d, self.up = nn.Conv3d(2, 2, 2), nn.ConvTranspose1d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(self, x) for function in OPERATORS.values())


def worst(wanted: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[float, str]:
    pairs = zip(OPERATORS, wanted, found, strict=True)
    return min((compare(one.detach(), other).sqnr, name) for name, one, other in pairs)


@pytest.mark.parametrize("config", ["int8_static_per_channel", "int8_dynamic_per_channel"])
def test_operands_of_odd_ranks_run_close_to_float(config: str) -> None:
    model = Odd().eval()
    torch.manual_seed(1)
    batches = [(torch.randn(3, 8),) for _ in range(8)]
    result = qreg.quantize(model, batches[0], calibration=batches, config=config, progress=False)
    level, name = worst(model(*batches[0]), result.run(*batches[0]))
    assert level > 25, name
    assert result.audit is not None
    assert not result.audit.defects
    assert result.decided["annotated"] > 0


def test_operands_of_odd_ranks_are_right_in_a_float_program() -> None:
    model, x = Odd().eval(), torch.randn(3, 8)
    level, name = worst(model(x), load(qreg.lower(model, (x,)).program)([x]))
    assert level > 100, name


def test_a_linear_with_a_bias_for_each_row_runs_in_int8() -> None:
    torch.manual_seed(0)
    model = Call(
        lambda m, x: F.linear(x, m.linear.weight, m.biases.weight),
        linear=nn.Linear(8, 4),
        biases=nn.Embedding(3, 4),
    ).eval()
    batches = [(torch.randn(3, 8),) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False)
    linear = [each for each in result.decisions if each.operator == "aten.linear.default"]
    assert [each.status for each in linear] == ["annotated"]
    assert compare(model(*batches[0]).detach(), result.run(*batches[0])).sqnr > 30
