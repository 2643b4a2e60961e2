"""Equivalent calls compute what the call computed, in a graph and in a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import export
from torch.nn import functional as F

from qreg.graph import equivalents
from qreg.graph.nodes import called, calls, order_of

torch.manual_seed(0)
X, IMAGE = torch.randn(3, 4), torch.randn(2, 3, 6, 8)
ROWS, BIAS = torch.randn(3, 5), torch.randn(5)
WEIGHT, TRANSPOSED = torch.randn(5, 4), torch.randn(4, 5)

# The rewrite, the operator that it rewrites, what uses it, and the operators that are left of it.
CASES: dict[str, tuple[Any, str, Callable[..., Any], Tensor, list[str]]] = {
    "a stride that is the window": (
        equivalents.spell_out_stride,
        "aten.max_pool2d.default",
        lambda x: F.max_pool2d(x, (2, 3)),
        IMAGE,
        ["aten.max_pool2d.default"],
    ),
    "alpha": (
        equivalents.spell_out_alpha,
        "aten.add.Tensor",
        lambda x: torch.add(x, x.cos(), alpha=3),
        X,
        ["aten.cos.default", "aten.mul.Tensor", "aten.add.Tensor"],
    ),
    "a sum with itself": (
        equivalents.double_by_factor,
        "aten.add.Tensor",
        lambda x: x + x,
        X,
        ["aten.mul.Tensor"],
    ),
    "a linear with a bias for each row": (
        equivalents.add_bias,
        "aten.linear.default",
        lambda x: F.linear(x, WEIGHT, ROWS),
        X,
        ["aten.linear.default", "aten.add.Tensor"],
    ),
    "a linear with one bias for each column": (
        equivalents.add_bias,
        "aten.linear.default",
        lambda x: F.linear(x, WEIGHT, BIAS),
        X,
        ["aten.linear.default"],
    ),
    "addmm with factors": (
        equivalents.add_bias,
        "aten.addmm.default",
        lambda x: torch.addmm(BIAS, x, TRANSPOSED, alpha=2, beta=0.5),
        X,
        ["aten.mm.default", "aten.mul.Tensor", "aten.mul.Tensor", "aten.add.Tensor"],
    ),
    "a pool without a batch": (
        equivalents.add_batch,
        "aten.avg_pool2d.default",
        lambda x: F.avg_pool2d(x, 2, padding=1),
        IMAGE[0],
        ["aten.unsqueeze.default", "aten.avg_pool2d.default", "aten.squeeze.dim"],
    ),
    "a pad that crops": (
        equivalents.crop_by_slices,
        "aten.pad.default",
        lambda x: F.pad(x, (-1, 2, 3, -2), value=7.0),
        IMAGE,
        ["aten.slice.Tensor", "aten.slice.Tensor", "aten.pad.default"],
    ),
    "a maximum without its positions": (
        equivalents.without_positions,
        "aten.max.dim",
        lambda x: x.max(1, keepdim=True).values,
        X,
        ["aten.amax.default"],
    ),
    "a maximum and its positions": (
        equivalents.without_positions,
        "aten.max.dim",
        lambda x: x.max(1),
        X,
        ["aten.max.dim"],
    ),
}


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_that_of_the_call(case: str) -> None:
    rewrite, name, function, x, left = CASES[case]
    program = export(Call(function), (x,))
    program.graph.eliminate_dead_code()  # positions that nothing reads
    (call,) = calls(program.graph, {name})
    rewrite(call)
    program.graph.lint()
    program.graph_module.recompile()
    names = [called(node) for node in program.graph.nodes]
    assert [name for name in names if name.startswith("aten.")] == left
    values = torch.utils._pytree.tree_leaves(function(x))
    for value, node in zip(values, program.graph.output_node().args[0], strict=True):
        assert node.meta["val"].shape == value.shape
    found = torch.utils._pytree.tree_leaves(program.module()(x))
    torch.testing.assert_close(found, values)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (-1, 1, 0)])
def test_the_order_of_a_permutation_is_that_of_its_sizes(order: tuple[int, ...]) -> None:
    x = torch.empty(2, 3, 5)
    program = export(Call(lambda x: (x.permute(order), x.transpose(-1, 0), x + 1)), (x,))
    permuted, transposed, other = program.graph.output_node().args[0]
    for node, value in ((permuted, x.permute(order)), (transposed, x.transpose(-1, 0))):
        assert [x.shape[dim] for dim in order_of(node)] == list(value.shape)
    assert order_of(other) is None


def test_t_permutes_a_matrix_and_leaves_a_row() -> None:
    program = export(Call(lambda x: (x.t(), x[0].t())), (torch.empty(2, 3),))
    assert [order_of(node) for node in program.graph.output_node().args[0]] == [[1, 0], [0]]
