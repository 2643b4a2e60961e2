"""Writes to slices are replaced by new tensors; every reader reads what it read before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from qreg.graph.mutation import Mutations
from qreg.graph.slice_writes import without_slice_writes

X = torch.arange(1.0, 241.0).reshape(2, 6, 5, 4).sin()


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def assigned(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :3] = y[:, :3].exp()
    return y


def assigned_to_the_end(x: Tensor) -> Tensor:
    y = x * 2
    y[..., -1:] = y[..., :1].cos()
    return y + 1


def scaled(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 1:3] *= 3
    return y


def element(x: Tensor) -> Tensor:
    y = x * 2
    y[:, -1] = y[:, 0].cos()
    y[0] += 1
    return y


def nested(x: Tensor) -> Tensor:
    y = x * 2
    y[0, :4, 2:] = y[1, 1:5, 2:].cos()
    return y


def swapped(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :2], y[:, 2:4] = y[:, 2:4].clone(), y[:, :2].clone()
    return y


def overlapping(x: Tensor) -> Tensor:
    """The second write reads what the first has written."""
    y = x * 2
    y[:, 1:] = y[:, :-1] + 1
    y[:, :2] = y[:, 2:4].tanh()
    return y


def seen_through_an_older_view(x: Tensor) -> tuple[Tensor, Tensor]:
    y = x * 2
    view, turned = y[:, :2], y.transpose(1, 3)
    before = view + 0
    y.clamp_(-0.5, 0.5)
    turned[..., 1].neg_()
    return view + before, turned.sum(1)


def through_other_views(x: Tensor) -> Tensor:
    y = x * 2
    y.view(2, 6, 20)[:, :, 3:5].mul_(0.5)
    y.permute(0, 2, 3, 1)[:, 0].relu_()
    y.unsqueeze(0).squeeze(0)[1:].add_(1)
    return y.cos()


def filled(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 0] = 0
    y[:, 1:2].fill_(0.5)
    y[1:].zero_()
    return y


def filled_whole(x: Tensor) -> Tensor:
    y = x * 2
    y[:] = x.cos()
    return y


def into_zeros(x: Tensor) -> Tensor:
    """The shift of a temporal shift module."""
    out = torch.zeros_like(x)
    out[:-1, :2] = x[1:, :2]
    out[1:, 2:4] = x[:-1, 2:4]
    out[:, 4:] = x[:, 4:]
    return out


REWRITTEN = [
    assigned,
    assigned_to_the_end,
    scaled,
    element,
    nested,
    swapped,
    overlapping,
    seen_through_an_older_view,
    through_other_views,
    filled,
    filled_whole,
    into_zeros,
]


def graph_of(function: Callable[[Tensor], Any], **options: Any) -> Any:
    return export(Call(function), (X,), **options).module(check_guards=False)


@pytest.mark.parametrize("function", REWRITTEN)
def test_the_result_is_the_same_without_a_write(function: Callable[[Tensor], Any]) -> None:
    graph_module = without_slice_writes(graph_of(function))
    graph_module.graph.lint()
    assert not Mutations.of(graph_module.graph).live_views()
    torch.testing.assert_close(graph_module(X), function(X), rtol=0, atol=0)


def every_second(x: Tensor) -> Tensor:
    y = x * 2
    y[..., ::2] = x[..., ::2].cos()
    return y


def broadcast(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :2].copy_(x[:, :1, :1, :1])
    return y


def converted(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :2].copy_(x[:, :2].double())
    return y


def counted(x: Tensor) -> Any:
    """Return 2 for ``X``, as a number that depends on the data."""
    found: Any = (x[:, 0, 0, 0] != 0).sum().item()
    torch._check(found >= 0)
    torch._check(found < 6)
    return found


def counted_element(x: Tensor) -> Tensor:
    y = x * 2
    y.select(1, counted(x)).zero_()
    return y


@pytest.mark.parametrize("function", [every_second, broadcast, converted, counted_element])
def test_what_a_cat_cannot_express_is_left_alone(function: Callable[[Tensor], Any]) -> None:
    graph_module = graph_of(function)
    before = graph_module.code
    assert without_slice_writes(graph_module).code == before
    torch.testing.assert_close(graph_module(X), function(X), rtol=0, atol=0)


def test_a_dynamic_size_is_left_alone() -> None:
    graph_module = graph_of(assigned, dynamic_shapes=({0: Dim("batch", max=9)},))
    before = graph_module.code
    assert without_slice_writes(graph_module).code == before


def test_an_input_of_the_model_is_still_written_to() -> None:
    def changed(x: Tensor) -> Tensor:
        x[:, :2] = 0
        return x + 1

    graph_module = without_slice_writes(graph_of(changed))
    given = X.clone()
    graph_module(given)
    assert bool((given[:, :2] == 0).all())


def test_a_buffer_is_still_written_to() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            self.seen[:2] += 1
            return x + self.seen

    graph_module: Any = export(Counter(), (X,)).module(check_guards=False)
    without_slice_writes(graph_module)
    graph_module(X)
    assert graph_module.seen.tolist() == [1, 1, 0, 0]
