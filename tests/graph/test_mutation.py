"""Which memory a graph writes to, and which views see it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qreg.graph.mutation import Mutations, own_state, written_buffers


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


def test_a_written_buffer_is_known_by_all_of_its_names() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Buffer(torch.zeros(2, 4))
            self.kept = nn.Buffer(torch.ones(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            self.first.view(-1)[:4] += 1
            return x + self.first * self.kept

    model = torch.export.export(Twice(), (torch.ones(2, 4),)).module()
    assert written_buffers(model.graph) == {"first"}
    own = own_state(model)
    own(torch.ones(2, 4))
    assert own.first.sum() == 4


def test_a_norm_that_trains_is_quantized_though_it_writes_its_statistics() -> None:
    """Otherwise no convolution would be trained together with the norm that is folded into it."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    graph = torch.export.export(model, (torch.randn(2, 3, 8, 8),)).module().graph
    reasons = {str(node.target): why for node, why in Mutations.of(graph).reasons(graph).items()}
    assert "aten.batch_norm.default" not in reasons
    assert "num_batches_tracked" in reasons["aten.add_.Tensor"]


def test_a_norm_of_statistics_that_others_write_stays_in_float() -> None:
    class Drifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            self.norm.running_mean.add_(1)
            return y

    graph = torch.export.export(Drifting().eval(), (torch.randn(2, 4),)).module().graph
    reasons = {str(node.target): why for node, why in Mutations.of(graph).reasons(graph).items()}
    assert "norm.running_mean" in reasons["aten.batch_norm.default"]
