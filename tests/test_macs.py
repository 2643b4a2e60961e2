"""Pins the multiply-accumulates of operators to a count by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from qreg.macs import macs

IMAGE = torch.zeros(2, 4, 8, 8)


class Call(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("model", "inputs", "wanted"),
    [
        (nn.Linear(16, 8), [torch.zeros(3, 16)], 3 * 16 * 8),
        (nn.Conv2d(4, 6, 3), [IMAGE], 2 * 6 * 6 * 6 * 4 * 3 * 3),
        (nn.Conv2d(4, 8, 3, groups=4), [IMAGE], 2 * 8 * 6 * 6 * 1 * 3 * 3),
        (nn.Conv1d(4, 6, 3), [torch.zeros(1, 4, 10)], 6 * 8 * 4 * 3),
        (Call(torch.matmul), [torch.zeros(5, 2, 3), torch.zeros(5, 3, 4)], 5 * 2 * 3 * 4),
        (
            Call(functional.scaled_dot_product_attention),
            [torch.zeros(1, 2, 7, 4)] * 3,
            2 * 2 * 7 * 7 * 4,
        ),
        (nn.ReLU(), [IMAGE], 0),
        (Call(torch.add), [IMAGE, IMAGE], 0),
    ],
)
def test_the_count_is_that_of_a_hand(
    model: nn.Module, inputs: list[Tensor], wanted: int, capture: Any
) -> None:
    graph = capture(model, *inputs).graph
    assert sum(macs(node) for node in graph.nodes if node.op == "call_function") == wanted
