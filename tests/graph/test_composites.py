"""Composites and aliases of torch become the operators that tables match, and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx import GraphModule
from torch.nn import functional as F

from qreg.folding.fold import folded
from qreg.graph.composites import KEPT, remaining, spelled_out
from qreg.plugins.operator_names import operator_name

# What torch offers on one image (1, 4, 8, 8), and the operators that it stands for.
SPELLED: dict[str, tuple[Callable[[Tensor], Any], set[str]]] = {
    "narrow": (lambda x: x.narrow(1, 0, 2), {"slice.Tensor"}),
    "chunk": (lambda x: x.chunk(2, 1)[1] + 1, {"slice.Tensor", "add.Tensor"}),
    "split": (lambda x: x.split([1, 3], 1), {"slice.Tensor"}),
    "split by size": (lambda x: x.split(3, 1), {"slice.Tensor"}),
    "tensor_split": (lambda x: x.tensor_split([1, 2], 2)[1], {"slice.Tensor"}),
    "hsplit": (lambda x: x.hsplit(2)[1], {"slice.Tensor"}),
    "dsplit": (lambda x: x.dsplit(2)[0], {"slice.Tensor"}),
    "slice_copy": (lambda x: torch.slice_copy(x, 1, 0, 2), {"slice.Tensor"}),
    "permute_copy": (lambda x: torch.permute_copy(x, (0, 2, 3, 1)), {"permute.default"}),
    "view_copy": (lambda x: torch.view_copy(x, (4, 64)), {"view.default"}),
    "concat": (lambda x: torch.concat([x, x], 1), {"cat.default"}),
    "concatenate": (lambda x: torch.concatenate([x, x], 1), {"cat.default"}),
    "hstack": (lambda x: torch.hstack([x, x]), {"cat.default"}),
    "vstack": (lambda x: torch.vstack([x, x]), {"cat.default"}),
    "clip": (lambda x: x.clip(0.1), {"clamp.default"}),
    "clamp_min": (lambda x: x.clamp_min(0.1), {"clamp.default"}),
    "clamp_max in place": (lambda x: (x * 2).clamp_max_(0.1), {"mul.Tensor", "clamp_.default"}),
    "swapaxes": (lambda x: x.swapaxes(1, 2), {"transpose.int"}),
    "movedim": (lambda x: x.movedim(1, 2), {"permute.default"}),
    "unflatten": (lambda x: x.unflatten(1, (2, 2)), {"view.default"}),
    "ravel": (lambda x: x.ravel(), {"view.default"}),
    "reshape_as": (lambda x: x.reshape_as(x), {"view.default"}),
    "view_as": (lambda x: x.view_as(x), {"view.default"}),
    "expand_as": (lambda x: x[:, :1].expand_as(x), {"slice.Tensor", "expand.default"}),
    "type_as": (lambda x: x.type_as(x) + 1, {"add.Tensor"}),
    "multiply": (lambda x: torch.multiply(x, x), {"mul.Tensor"}),
    "subtract": (lambda x: torch.subtract(x, 1), {"sub.Tensor"}),
    "true_divide": (lambda x: x.true_divide(2.0), {"div.Tensor"}),
    "square": (lambda x: x.square(), {"pow.Tensor_Scalar"}),
    "tile": (lambda x: x.tile(1, 2, 1, 1), {"repeat.default"}),
    "fliplr": (lambda x: x.fliplr(), {"flip.default"}),
}
IMAGE = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def captured(function: Callable[[Tensor], Any], dynamic_shapes: Any = None) -> GraphModule:
    program = torch.export.export(Call(function), (IMAGE,), dynamic_shapes=dynamic_shapes)
    return program.module(check_guards=False)


def operators(model: GraphModule) -> set[str]:
    targets = (node.target for node in model.graph.nodes if node.op == "call_function")
    found = {str(each).removeprefix("aten.") for each in targets}
    return {name for name in found if "getitem" not in name and "sym_size" not in name}


@pytest.mark.parametrize("name", SPELLED)
def test_a_composite_becomes_what_it_stands_for(name: str) -> None:
    function, wanted = SPELLED[name]
    model = spelled_out(captured(function), ())
    model.graph.lint()
    assert operators(model) == wanted
    assert remaining(model, ()) == []
    torch.testing.assert_close(model(IMAGE), function(IMAGE), rtol=0, atol=0)


class Bounded(nn.Module):
    """The operator of a bound that is a buffer or a parameter."""

    def __init__(self, function: Callable[..., Any], bound: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_parameter("bound", nn.Parameter(bound))

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.bound)


def bounded(function: Callable[..., Any], bound: Tensor) -> GraphModule:
    program = torch.export.export(Bounded(function, bound), (IMAGE,))
    return program.module(check_guards=False)


@pytest.mark.parametrize(
    ("function", "bound"),
    [
        (torch.maximum, torch.tensor(0.1)),
        (lambda x, b: torch.minimum(b, x), torch.tensor([0.1])),
        (lambda x, b: torch.max(x, b), torch.full((4, 1, 1), -0.3)),
        (lambda x, b: x.clamp(max=b), torch.tensor(0.2)),
        (lambda x, b: x.clamp(b, 2 * b), torch.tensor(0.2)),
    ],
)
def test_constants_of_one_value_are_numbers_that_clamp(
    function: Callable[..., Any], bound: Tensor
) -> None:
    model = spelled_out(folded(bounded(function, bound)), ())
    assert operators(model) == {"clamp.default"}
    torch.testing.assert_close(model(IMAGE), function(IMAGE, bound), rtol=0, atol=0)
    assert "clamp.default" not in operators(spelled_out(bounded(function, bound), (), trained=True))


@pytest.mark.parametrize(
    ("function", "bound"),
    [
        (torch.maximum, torch.tensor([[[0.1]], [[0.2]], [[0.1]], [[0.1]]])),
        (torch.maximum, torch.full((2, 4, 8, 8), 0.1)),
        (torch.maximum, torch.tensor(0.1, dtype=torch.float64).expand(1)),
        (torch.maximum, torch.tensor(torch.nan)),
        (lambda x, b: torch.maximum((x * 100).long(), b.long()), torch.tensor(3.0)),
        (lambda x, b: torch.maximum(x, b.add_(0.1)), torch.tensor(0.1)),
    ],
)
def test_other_maxima_stay(function: Callable[..., Any], bound: Tensor) -> None:
    bound = bound.clone().requires_grad_(False)
    model = bounded(lambda x, b: function(x, b.detach()), bound)
    assert "maximum.default" in operators(spelled_out(model, ()))


def test_shapes_may_be_dynamic() -> None:
    def several(x: Tensor) -> Tensor:
        parts = torch.hstack([x.narrow(1, 0, 2), x.clip(0.1), x.square()])
        return torch.concat([parts.unflatten(1, (2, 5)).flatten(1, 2), parts], 1)

    model = spelled_out(captured(several, ({2: Dim.DYNAMIC},)), ())
    other = torch.linspace(-2, 2, 4 * 5 * 8).reshape(1, 4, 5, 8)
    assert remaining(model, ()) == []
    torch.testing.assert_close(model(other), several(other), rtol=0, atol=0)


def test_what_tables_know_stays() -> None:
    model = captured(lambda x: torch.concat([F.softmax(x, 1), x.narrow(1, 0, 2)], 1))
    assert operators(spelled_out(model, {"aten.narrow.default"})) == {
        "softmax.int",
        "narrow.default",
        "cat.default",
    }


def test_a_copy_that_is_written_to_stays_a_copy() -> None:
    def written(x: Tensor) -> Tensor:
        y = x * 2
        part = torch.slice_copy(y, 1, 0, 2)
        part.add_(1)
        return torch.cat([part, y], 1)

    model = spelled_out(captured(written), ())
    assert "slice_copy.Tensor" in operators(model)
    torch.testing.assert_close(model(IMAGE), written(IMAGE), rtol=0, atol=0)


def test_an_operator_keeps_where_its_composite_came_from() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.narrow(1, 0, 2)

    program = torch.export.export(nn.Sequential(Inner()), (IMAGE,))
    model = program.module(check_guards=False)
    (before,) = model.graph.find_nodes(op="call_function", target=torch.ops.aten.narrow.default)
    wanted = before.meta["nn_module_stack"], before.meta["stack_trace"]
    spelled_out(model, ())
    (node,) = model.graph.find_nodes(op="call_function", target=torch.ops.aten.slice.Tensor)
    assert (node.meta["nn_module_stack"], node.meta["stack_trace"]) == wanted


def test_every_kept_name_is_an_operator_of_torch() -> None:
    names = [name.removeprefix("aten.") for name in KEPT]
    assert [name for name in names if not hasattr(torch.ops.aten, name)] == []
    assert {operator_name(f"aten.{name}.x") for name in names} == {f"aten.{n}.x" for n in names}
