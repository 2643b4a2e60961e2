"""Pins what is computed ahead of quantization: what depends on constants, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases_folding import (
    Call,
    Capture,
    constants,
    is_close,
    nbytes,
    operators,
    parameter,
    standardized,
)
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from qreg.folding.budget import MEGABYTE
from qreg.folding.fold import folded
from qreg.folding.parameters import read_constant
from qreg.graph.provenance import module_path

ROWS, IMAGE = (3, 8), (1, 4, 8, 8)


CONV, LINEAR = "aten.conv2d.default", "aten.linear.default"
FOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "weight norm": (lambda: weight_norm(nn.Linear(8, 4)), ROWS, [LINEAR]),
    "spectral norm": (lambda: spectral_norm(nn.Conv2d(4, 4, 3)), IMAGE, [CONV]),
    "a standardized weight": (
        lambda: Call(lambda m, x: F.conv2d(x, standardized(m.w)), w=parameter(4, 4, 3, 3)),
        IMAGE,
        [CONV],
    ),
    "a low-rank update": (
        lambda: Call(
            lambda m, x: F.linear(x, m.w + 0.5 * m.up @ m.down),
            w=parameter(4, 8),
            up=parameter(4, 2),
            down=parameter(2, 8),
        ),
        ROWS,
        [LINEAR],
    ),
    "a transposed table": (
        lambda: Call(lambda m, x: x @ m.w.t(), w=parameter(4, 8)),
        ROWS,
        ["aten.matmul.default"],
    ),
    "tensors made from shapes": (
        lambda: Call(lambda m, x: x + torch.arange(8) * 0.5 + torch.ones_like(x).cumsum(1)),
        ROWS,
        ["aten.add.Tensor", "aten.add.Tensor"],
    ),
    "a tensor made from a literal": (
        lambda: Call(lambda m, x: x * torch.tensor([0.5] * 8)),
        ROWS,
        ["aten.mul.Tensor"],
    ),
    "a weight under no_grad": (
        lambda: Call(lambda m, x: F.linear(x, without_gradients(m.w)), w=parameter(4, 8)),
        ROWS,
        [LINEAR],
    ),
}


def without_gradients(weight: Tensor) -> Tensor:
    with torch.no_grad():
        return weight * 2


@pytest.mark.parametrize("kind", FOLDED)
def test_what_depends_on_constants_alone_is_computed_once(kind: str, capture: Capture) -> None:
    torch.manual_seed(0)
    make, shape, left = FOLDED[kind]
    module, x = make().eval(), torch.randn(shape)
    model = folded(capture(module, x))
    assert operators(model) == left
    assert is_close(module, model, x)


def test_cross_attention_has_constant_projections(capture: Capture) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    nn.init.normal_(attention.in_proj_bias)
    module = Call(lambda m, q, k: m.attention(q, k, k)[0], attention=attention).eval()
    inputs = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    model = folded(capture(module, *inputs))
    linears = [node for node in model.graph.nodes if str(node.target) == LINEAR]
    assert len(linears) == 3
    assert {source.op for node in linears for source in node.args[1:]} == {"get_attr"}
    # Slices of in_proj_weight take as much as it did, and it is gone.
    assert nbytes(model) == sum(each.numel() * 4 for each in attention.parameters())
    assert is_close(module, model, *inputs)


def test_a_constant_is_named_for_its_module_and_role_and_keeps_its_scope(capture: Capture) -> None:
    module = Call(lambda m, x: m.head(x), head=weight_norm(nn.Linear(8, 4)))
    model = folded(capture(module, torch.randn(ROWS)))
    assert set(constants(model)) == {"head_weight", "head.bias"}
    (node,) = [each for each in model.graph.nodes if each.target == "head_weight"]
    assert "head" in module_path(node)


def test_a_constant_with_two_readers_is_stored_once(capture: Capture) -> None:
    module = Call(lambda m, x: (F.linear(x, w := m.w * 2), F.linear(x + 1, w)), w=parameter(4, 8))
    model = folded(capture(module.eval(), torch.randn(ROWS)))
    assert [tuple(each.shape) for each in constants(model).values()] == [(4, 8)]


def test_what_is_computed_at_each_call_of_a_layer_is_stored_once(capture: Capture) -> None:
    layer = nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.BatchNorm1d(8)).eval()
    model = folded(capture(Call(lambda m, x: m.layer(m.layer(x)), layer=layer), torch.randn(ROWS)))
    assert operators(model) == [LINEAR, LINEAR]
    assert [tuple(each.shape) for each in constants(model).values()] == [(8, 8), (8,)]
    assert is_close(nn.Sequential(layer, layer), model, torch.randn(ROWS))


def test_constants_of_one_shape_and_different_values_are_kept_apart(capture: Capture) -> None:
    module = Call(
        lambda m, x: (x + m.a * 2, x + m.b * 2, x + m.a * 3), a=parameter(8), b=parameter(8)
    )
    model = folded(capture(module.eval(), torch.randn(ROWS)))
    assert len(constants(model)) == 3
    assert is_close(module, model, torch.randn(ROWS))


LEFT: dict[str, tuple[Call, tuple[int, ...]]] = {
    "random": (Call(lambda m, x: x + torch.rand(8) * 2), ROWS),
    "a buffer written to": (
        Call(lambda m, x: (x + m.b * 2, m.b.add_(1))[0], b=torch.zeros(8)),
        ROWS,
    ),
    "a buffer written to through a view": (
        Call(lambda m, x: (x + m.b * 2, m.b[:4].mul_(3))[0], b=torch.ones(8)),
        ROWS,
    ),
    "a buffer that is overwritten": (
        Call(lambda m, x: (x + m.b * 2, m.b.copy_(x[0]))[0], b=torch.ones(8)),
        ROWS,
    ),
    "a tensor written to in the graph": (
        Call(lambda m, x: (mask := torch.zeros(8), mask[:4].fill_(1.0), x * mask)[2]),
        ROWS,
    ),
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_differs_from_call_to_call_is_left_alone(kind: str, capture: Capture) -> None:
    module, shape = LEFT[kind]
    model = capture(module, torch.randn(shape))
    before = operators(model)
    assert operators(folded(model)) == before


def test_every_name_of_a_written_buffer_is_left_alone(capture: Capture) -> None:
    state = torch.zeros(8)
    module = Call(lambda m, x: (x + m.a * 2, m.b.add_(1))[0], a=state, b=state)
    model = capture(module, torch.randn(ROWS))
    before = operators(model)
    assert operators(folded(model)) == before


def test_sizes_that_vary_are_left_alone(capture: Capture) -> None:
    module = Call(lambda m, x: x + torch.ones(x.shape[0], 1))
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (torch.randn(ROWS),), dynamic_shapes=(shapes,))
    model = folded(program.module(check_guards=False))
    assert "aten.ones.default" in operators(model)
    assert is_close(module, model, torch.randn(5, 8))


def test_a_table_that_is_also_read_as_it_is_is_not_stored_twice(capture: Capture) -> None:
    module = Call(lambda m, ids: F.embedding(ids, m.w) @ m.w.t(), w=parameter(2048, 256))
    ids = torch.tensor([[1, 2]])
    model = folded(capture(module, ids))
    assert nbytes(model) == 2048 * 256 * 4
    assert is_close(module, model, ids)


def test_a_large_mask_is_not_stored_and_a_small_one_is(capture: Capture) -> None:
    def masked(size: int) -> GraphModule:
        module = Call(lambda m, x: x + torch.full((size, size), -1.0).triu(1))
        return folded(capture(module, torch.randn(size, size)))

    small = masked(64)
    assert operators(small) == ["aten.add.Tensor"]
    assert nbytes(small) == 64 * 64 * 4
    assert MEGABYTE < 1024 * 1024 * 4
    assert nbytes(masked(1024)) == 0


def test_a_computed_weight_is_folded_whatever_its_size(capture: Capture) -> None:
    module = Call(
        lambda m, ids: F.linear(F.embedding(ids, m.w), m.w * m.gain),
        w=parameter(1024, 512),
        gain=parameter(512),
    )
    model = folded(capture(module, torch.tensor([[1, 2]])))
    assert operators(model) == ["aten.embedding.default", LINEAR]


def test_folding_again_changes_nothing(capture: Capture) -> None:
    module = nn.Sequential(weight_norm(nn.Linear(8, 4)), nn.BatchNorm1d(4), nn.ReLU())
    model = folded(capture(module, torch.randn(ROWS)))
    code, before = model.code, constants(model)
    folded(model)
    assert model.code == code
    assert list(constants(model)) == list(before)


def test_the_module_keeps_its_tensors(capture: Capture) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(weight_norm(nn.Linear(8, 4)), nn.BatchNorm1d(4)).eval()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    model = folded(capture(module, torch.randn(ROWS)))
    with torch.no_grad():
        for each in constants(model).values():
            each.fill_(7.0)
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


def test_the_cost_of_a_name_does_not_grow_with_the_names_that_are_taken(capture: Capture) -> None:
    """Counted in attributes that are looked up: each weight of a row of layers is called alike."""
    looked_up = []
    for layers in (10, 100):
        model = folded(capture(Call(lambda m, x: x + m.w * 2, w=parameter(4)), torch.randn(4)))
        counted = [0]

        class Counting(type(model)):
            def __getattr__(self, name: str, counted: list[int] = counted) -> Any:
                counted[0] += 1
                return super().__getattr__(name)

        model.__class__ = Counting
        origin = next(node for node in model.graph.nodes if node.op == "get_attr")
        made = [
            read_constant(model, origin, "weight", torch.zeros(4), as_parameter=False)
            for _ in range(layers)
        ]
        assert len({node.target for node in made}) == layers
        looked_up.append(counted[0] / layers)
    assert looked_up[1] < 1.5 * looked_up[0]
