"""Operators that only move values compute the same as slices, views and permutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

from qreg.graph import moves
from qreg.graph.nodes import called, calls

torch.manual_seed(0)
X, IMAGE = torch.randn(3, 4, 5), torch.randn(2, 8, 6, 4)
LEFT = {f"aten.{name}" for name in ("view.default", "reshape.default", "permute.default")}
LEFT |= {"aten.slice.Tensor", "aten.cat.default", "aten.add.Tensor"}


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


CASES: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "select": (lambda x: x.select(1, 2), X),
    "select from the end": (lambda x: x.select(-1, -5), X),
    "select of a transposed tensor": (lambda x: x.mT.select(2, 1), X),
    "unbind": (lambda x: torch.add(*x.unbind(1)[1:3]), X),
    "unbind of the batch": (lambda x: torch.add(*x.unbind()[1:]), X),
    "unbind from the end": (lambda x: torch.add(*x.unbind(-1)[3:]), X),
    "unbind with one reader": (lambda x: x.unbind(2)[4], X),
    "stack": (lambda x: torch.stack([x, x + x], 1), X),
    "stack after the last": (lambda x: torch.stack([x, x + x, x], -1), X),
    "stack of transposed tensors": (lambda x: torch.stack([x.mT, x.mT]), X),
    "squeeze": (lambda x: x[:, :1].squeeze(), X),
    "squeeze of a dimension": (lambda x: x[:, :1].squeeze(-2), X),
    "squeeze of a dimension that stays": (lambda x: x.squeeze(1), X),
    "squeeze of several": (lambda x: x[:1, :, :1].squeeze((0, 2)), X),
    "unsqueeze": (lambda x: x.unsqueeze(1), X),
    "unsqueeze from the end": (lambda x: x.mT.unsqueeze(-4), X),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), IMAGE),
    "pixel_shuffle without a batch": (lambda x: F.pixel_shuffle(x, 2), IMAGE[0]),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), IMAGE),
    "pixel_unshuffle without a batch": (lambda x: F.pixel_unshuffle(x, 2), IMAGE[0]),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 4), IMAGE),
    "channel_shuffle of rows": (lambda x: F.channel_shuffle(x, 2), X),
}


def rewritten(program: torch.export.ExportedProgram) -> Any:
    graph_module: Any = program.module(check_guards=False)
    changed = [moves.MOVES[called(n)](n) for n in calls(graph_module.graph, moves.MOVES)]
    graph_module.graph.lint()
    graph_module.recompile()
    return graph_module, changed


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_the_same(case: str) -> None:
    function, x = CASES[case]
    graph_module, changed = rewritten(export(Call(function), (x,)))
    assert changed
    assert all(changed)
    # The transposed inputs of some cases are views of another kind.
    used = {called(node) for node in graph_module.graph.nodes} - {"", "aten.transpose.int"}
    assert used <= LEFT | {"aten.numpy_T.default", "aten.mT.default"}
    torch.testing.assert_close(graph_module(x), function(x), rtol=0, atol=0)


DYNAMIC: dict[str, tuple[Callable[[Tensor], Any], Tensor, bool]] = {
    "select": (lambda x: x.select(1, -1), X, False),
    "select of the batch": (lambda x: x.select(0, -1), X, False),
    "unbind": (lambda x: torch.add(*x.unbind(1)[:2]), X, False),
    "stack": (lambda x: torch.stack([x, x]), X, False),
    "unsqueeze": (lambda x: x.unsqueeze(1), X, True),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), IMAGE, True),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), IMAGE, True),
}


@pytest.mark.parametrize("case", DYNAMIC)
def test_a_dynamic_batch_is_kept(case: str) -> None:
    """Views take it as -1; slices need static sizes, so those calls stay as they are."""
    function, x, expected = DYNAMIC[case]
    program = export(Call(function), (x,), dynamic_shapes=({0: Dim("batch")},))
    graph_module, changed = rewritten(program)
    assert all(changed) == expected
    for batch in (x, torch.cat([x, x, x])):
        torch.testing.assert_close(graph_module(batch), function(batch), rtol=0, atol=0)


def test_two_dynamic_sizes_are_left_alone() -> None:
    sizes = ({0: Dim("batch"), 1: Dim("rows")},)
    graph_module, changed = rewritten(
        export(Call(lambda x: x.unsqueeze(0)), (X,), None, dynamic_shapes=sizes)
    )
    assert changed == [False]
    torch.testing.assert_close(graph_module(X), X.unsqueeze(0))


def test_an_expand_stays_if_its_size_comes_from_nowhere_else() -> None:
    both = export(Call(lambda x: x[:, :, :1].expand(3, 4, 5) + x[:, :, :1].expand(3, 4, 5)), (X,))
    one = export(Call(lambda x: x + x[:, :, :1].expand(3, 4, 5)), (X,))
    for program, left in ((both, 1), (one, 0)):
        graph_module = program.module(check_guards=False)
        for node in calls(graph_module.graph, ("aten.expand.default",)):
            moves.without_expand(node, ("aten.add.Tensor",))
        assert len(calls(graph_module.graph, ("aten.expand.default",))) == left
        graph_module.recompile()
        torch.testing.assert_close(graph_module(X), program.module()(X))


COPIES = ("aten.contiguous.default", "aten.clone.default")


def bypassed(function: Callable[[Tensor], Any]) -> tuple[bool, Any]:
    graph_module = export(Call(function), (X,)).module(check_guards=False)
    (copy,) = calls(graph_module.graph, COPIES)
    changed = moves.without_copy(copy)
    graph_module.recompile()
    torch.testing.assert_close(graph_module(X), function(X), rtol=0, atol=0)
    return changed, {called(node) for node in graph_module.graph.nodes}


def test_a_view_of_what_was_copied_to_be_contiguous_becomes_a_reshape() -> None:
    changed, left = bypassed(lambda x: x.transpose(1, 2).contiguous().view(3, 20))
    assert changed
    assert "aten.view.default" not in left


def test_a_copy_with_the_strides_of_its_input_is_bypassed() -> None:
    assert bypassed(lambda x: x.clone().view(3, 20))[0]


def test_a_copy_stays_where_its_strides_are_handed_on() -> None:
    """The sum would have the strides of the transposed input, which the view does not accept."""
    assert not bypassed(lambda x: (x.transpose(1, 2).contiguous() + 1).view(3, 20))[0]
    split = bypassed(lambda x: x.transpose(1, 2).contiguous().view(3, 5, 2, 2).view(3, 20))
    assert not split[0]


def test_a_copy_at_the_output_stays_one() -> None:
    assert not bypassed(lambda x: x.clone())[0]


def test_an_element_at_a_computed_place_is_left_alone() -> None:
    def chosen(x: Tensor) -> Tensor:
        place: Any = (x > 100).sum().item()
        torch._check(place >= 0)
        torch._check(place < 4)
        return x.select(1, place)

    graph_module, changed = rewritten(export(Call(chosen), (X,)))
    assert changed == [False]
    torch.testing.assert_close(graph_module(X), X.select(1, 0))
