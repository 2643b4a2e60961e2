"""Which operators read what a cat joins, through what hands it on and through slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qreg.annotators.profitability import Islands, one_pass

ISLANDS = Islands(
    products=frozenset({"aten.linear.default"}),
    passing=frozenset(
        f"aten.{name}"
        for name in ("slice.Tensor", "transpose.int", "permute.default", "view.default")
    )
    | {"aten.relu.default", "aten.cat.default"},
)


class Joined(nn.Module):
    """Two tensors of 3 and 5 columns joined, then what a function makes of it and a linear."""

    def __init__(self, function: Callable[[Tensor, nn.Module], Any], columns: int) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(columns, 2)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.function(torch.cat([x, y], -1), self.linear)


READ: dict[str, tuple[int, Callable[[Tensor, Any], Any]]] = {
    "directly": (8, lambda z, linear: linear(z)),
    "after a relu": (8, lambda z, linear: linear(z.relu())),
    "after a slice across both": (4, lambda z, linear: linear(z[:, 1:5])),
    "after a slice of rows": (8, lambda z, linear: linear(z[:2])),
    "after a slice of what was reordered": (3, lambda z, linear: linear(z.view(8, 4)[:, :3])),
    "after a slice from the middle": (4, lambda z, linear: linear(z[:, 2:6])),
    "after another cat": (16, lambda z, linear: linear(torch.cat([z, z + 1], 1))),
}
NOT_READ: dict[str, tuple[int, Callable[[Tensor, Any], Any]]] = {
    "at the output": (8, lambda z, linear: z),
    "by a float operator": (8, lambda z, linear: linear(z.sigmoid())),
    "after a slice of the first": (3, lambda z, linear: linear(z[:, :3])),
    "after a slice of the second": (5, lambda z, linear: linear(z[:, 3:])),
    "after a slice in the first": (2, lambda z, linear: linear(z[:, 1:3])),
    "after a slice from the end": (5, lambda z, linear: linear(z[:, -5:])),
    "after a transposed slice": (4, lambda z, linear: linear(z.transpose(0, 1)[:3])),
    "after a permuted slice": (4, lambda z, linear: linear(z.permute(1, 0)[3:].relu())),
    "after a clipped slice": (3, lambda z, linear: linear(z.relu()[:, :3])),
}


def _read(capture: Callable[..., Any], columns: int, function: Callable[..., Any]) -> bool:
    graph = capture(Joined(function, columns), torch.randn(4, 3), torch.randn(4, 5)).graph
    cat = next(node for node in graph.nodes if "cat" in str(node.target))
    return ISLANDS.read_by_products(cat)


@pytest.mark.parametrize("where", READ)
def test_a_product_needs_the_joined_values(where: str, capture: Callable[..., Any]) -> None:
    assert _read(capture, *READ[where])


@pytest.mark.parametrize("where", NOT_READ)
def test_no_product_needs_the_joined_values(where: str, capture: Callable[..., Any]) -> None:
    assert not _read(capture, *NOT_READ[where])


def test_what_a_scope_keeps_in_float_neither_reads_nor_passes_on(
    capture: Callable[..., Any],
) -> None:
    model = Joined(lambda z, linear: linear(z.relu()), 8)
    graph = capture(model, torch.randn(4, 3), torch.randn(4, 5)).graph
    nodes = {str(node.target): node for node in graph.nodes}
    cat = nodes["aten.cat.default"]
    for kept in ("aten.linear.default", "aten.relu.default"):
        with one_pass(graph, [nodes[kept]]):
            assert not ISLANDS.read_by_products(cat)
    with one_pass(graph, [nodes["aten.linear.default"]]):
        assert not ISLANDS.read_by_products(nodes["aten.relu.default"])
    assert ISLANDS.read_by_products(cat)


class Dense(nn.Module):
    """Cats in a row, each of the one before: nothing that computes reads the last."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(self.blocks):
            y = torch.cat([y[:, :2], x], 1).relu()
        return y


class Counting(frozenset[str]):
    """Counts how often it is asked for a name."""

    asked = 0

    def __contains__(self, name: object) -> bool:
        self.asked += 1
        return super().__contains__(name)


def test_the_cost_of_asking_about_every_node_is_that_of_the_nodes(
    capture: Callable[..., Any],
) -> None:
    """Counted in names that are looked up, not in seconds."""
    counts = []
    for blocks in (20, 200):
        graph = capture(Dense(blocks), torch.randn(4, 2)).graph
        passing = Counting(ISLANDS.passing)
        islands = Islands(ISLANDS.products, passing)
        with one_pass(graph, []):
            for node in graph.nodes:
                assert not islands.read_by_products(node)
        counts.append(passing.asked / len(graph.nodes))
    assert counts[1] < 1.2 * counts[0]
