"""Which memory a graph writes to, and which views see it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qreg.mutation import Mutations


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * 2)


def tripled(y: Tensor) -> Tensor:
    y[:, :2].mul_(3)
    return y + 1


def seen_through_an_older_view(y: Tensor) -> Tensor:
    view = y.view(-1)
    y.add_(1)
    return view * 2


HARMFUL = {
    "a slice is changed": tripled,
    "a view is changed": lambda y: y.view(-1).relu_() + y.sum(),
    "an older view sees the change": seen_through_an_older_view,
}
HARMLESS = {
    "the whole tensor is changed": lambda y: y.relu_() + 1,
    "a view comes after the change": lambda y: y.relu_().flatten(1),
    "nothing is changed": lambda y: y.view(-1) + 1,
}


def found(function: Callable[[Tensor], Tensor]) -> list[str]:
    graph = torch.export.export(Call(function), (torch.ones(2, 4),)).module().graph
    return [node.name for node in graph.nodes if node in Mutations.of(graph).live_views()]


@pytest.mark.parametrize("name", HARMFUL)
def test_the_tensor_and_its_views_are_found(name: str) -> None:
    assert "mul" in found(HARMFUL[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_changes_are_not(name: str) -> None:
    assert found(HARMLESS[name]) == []
