"""Pins GPTQ to its definition: a column is rounded, and the rest is solved for anew.

The reference solves a system of equations for each column, without a Cholesky factor.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from layered import KINDS, Subject, batches, integer_weights, subject
from torch import Tensor, nn
from torch.nn import functional

from qreg.algorithms import gptq, stock
from qreg.algorithms.hessian import Rounded, damped, rounded_layers
from qreg.algorithms.layers import WEIGHT
from qreg.algorithms.simulation import Simulation

DAMPING = 0.01
GPTQ = stock.gptq(DAMPING)


def made(kind: str, config: str) -> Subject:
    model, shape = KINDS[kind]
    return subject(model, batches(shape), config, GPTQ)


def only(given: Subject) -> tuple[Rounded, Tensor]:
    """Return the layer, and its damped Hessian."""
    (layer,) = rounded_layers(given.candidate)
    return layer.double(), damped(
        given.calibration.statistics["moments"][layer.layer.name], DAMPING
    )


def solved(weight: Tensor, step: Tensor, most: int, hessian: Tensor) -> Tensor:
    """Round the weights of one channel by decreasing moments; least squares for the rest."""
    order = hessian.diagonal().argsort(descending=True, stable=True).tolist()
    current, chosen = weight.clone(), torch.zeros_like(weight)
    for position, j in enumerate(order):
        chosen[j] = (current[j] / step[j]).round().clamp(-most, most)
        rounded, rest = order[: position + 1], order[position + 1 :]
        off = weight[rounded] - chosen[rounded] * step[rounded]
        answer = torch.linalg.solve(hessian[rest][:, rest], hessian[rest][:, rounded] @ off)
        current[rest] = weight[rest] + answer
    return chosen


@pytest.mark.parametrize("config", ["channel8", "channel4", "tensor8", "tensor4"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_is_rounded_and_the_rest_solved_for(kind: str, config: str) -> None:
    layer, hessian = only(made(kind, config))
    chosen = gptq.rounding(layer, hessian, block=3)(layer)
    for group, row in itertools.product(*map(range, layer.weight.shape[:2])):
        weight, step = layer.weight[group, row], layer.scale[group, row]
        expected = solved(weight, step, layer.highest, hessian[group])
        assert torch.equal(chosen[group, row], expected)


def test_groups_of_a_row_have_separate_grids() -> None:
    torch.manual_seed(0)
    given = subject(nn.Sequential(nn.Linear(6, 5)), batches((8, 6)), "group4", GPTQ)
    layer, hessian = only(given)
    assert layer.scale[0, :, 2].ne(layer.scale[0, :, 3]).all()  # groups of three
    chosen = gptq.rounding(layer, hessian, block=4)(layer)
    for row in range(5):
        weight, step = layer.weight[0, row], layer.scale[0, row]
        assert torch.equal(chosen[0, row], solved(weight, step, layer.highest, hessian[0]))
    (found,) = integer_weights(given.changed(*given.changes(GPTQ))).values()
    assert torch.equal(found.double(), chosen[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_block_changes_nothing(kind: str) -> None:
    layer, hessian = only(made(kind, "channel4"))
    first, *others = (gptq.rounding(layer, hessian, block)(layer) for block in (1, 4, 128))
    assert all(torch.equal(first, each) for each in others)


@pytest.mark.parametrize("config", ["channel8", "channel4", "tensor8", "tensor4"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_program_has_the_integers_that_were_chosen(kind: str, config: str) -> None:
    given = made(kind, config)
    layer, hessian = only(given)
    chosen = gptq.rounding(layer, hessian, block=128)(layer)
    changed = given.changed(*given.changes(GPTQ))
    pair = [_qparams(each, layer.layer.name) for each in (changed, given.candidate.model)]
    assert all(map(torch.equal, *pair))
    (found,) = integer_weights(changed).values()
    expected = layer.values(lambda _: chosen) / layer.values(
        lambda _: torch.ones_like(chosen)
    )  # without the scale
    torch.testing.assert_close(found.float(), expected, atol=1e-3, rtol=0)
    (nearest,) = integer_weights(given.changed()).values()
    assert not torch.equal(found, nearest)


def _qparams(model: torch.fx.GraphModule, name: str) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero point of the weight of a layer."""
    (node,) = (each for each in model.graph.nodes if each.name == name)
    observer: Any = model.get_submodule(str(node.args[WEIGHT].target))
    scale, zero = observer.calculate_qparams()
    return scale, zero


@pytest.mark.parametrize("kind", ["conv2d", "grouped", "transposed2d"])
def test_the_output_is_nearer_to_float(kind: str) -> None:
    given = made(kind, "channel4")
    other = batches(KINDS[kind][1], seed=2)
    reference = [given.candidate.reference(*each) for each in other]

    def noise(model: torch.fx.GraphModule) -> float:
        run = Simulation(model).run
        pairs = zip(reference, [run(*each) for each in other], strict=True)
        return float(sum((one - two).square().sum() for one, two in pairs))

    with torch.no_grad():
        assert noise(given.changed(*given.changes(GPTQ))) < 0.8 * noise(given.changed())


def test_it_is_near_the_best_of_all_integers() -> None:
    """Brute force: all 3**5 combinations of down, nearest and up around each weight."""
    torch.manual_seed(0)
    given = subject(nn.Sequential(nn.Linear(5, 3)), batches((8, 5)), "channel4", GPTQ)
    layer, hessian = only(given)

    def error(integers: Tensor) -> Tensor:
        off = layer.weight - integers * layer.scale
        return ((off @ hessian) * off).sum(2)[0]

    nearest = layer.integers().round()
    steps = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 5).double()
    all_ = (nearest + steps[:, None]).clamp(-7, 7)[:, None]
    best = torch.stack([error(each) for each in all_]).amin(0)
    found = error(gptq.rounding(layer, hessian, 128)(layer))
    assert (found <= error(nearest) + 1e-12).all()
    assert (found <= 2 * best).all()
    assert found.sum() < 0.7 * error(nearest).sum()


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.twice, self.once, self.left = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.left(self.once(self.twice(self.twice(x).relu())))


def test_shared_weights_and_layers_in_float_are_left() -> None:
    given = subject(Shared(), batches((4, 6)), "channel8", GPTQ, left=None)
    (change,) = given.changes(GPTQ)
    (name,) = (each.name for each in given.candidate.model.graph.nodes if "once" in _path(each))
    assert change.node == name


def _path(node: torch.fx.Node) -> str:
    stack = [*(node.meta.get("nn_module_stack") or {}).values()]
    return str(stack[-1][0]) if stack and "linear" in str(node.target) else ""


def test_inputs_that_are_always_zero_are_rounded_to_nearest() -> None:
    data = [(functional.pad(x[:, :4], (0, 3)),) for (x,) in batches((4, 7))]
    given = subject(nn.Sequential(nn.Linear(7, 5)), data, "channel4", GPTQ)
    layer, hessian = only(given)
    chosen = gptq.rounding(layer, hessian, 128)(layer)
    assert torch.equal(chosen[..., 4:], layer.integers().round()[..., 4:])


def test_the_moments_do_not_grow_with_the_batches() -> None:
    model, shape = KINDS["conv2d"]
    few, many = (subject(model, batches(shape, n), "channel8", GPTQ) for n in (2, 20))
    (one,), (other,) = (each.calibration.statistics["moments"].values() for each in (few, many))
    assert one.shape == other.shape == (1, 4 * 3 * 2, 4 * 3 * 2)


@pytest.mark.parametrize("kind", ["linear_3d", "grouped", "transposed_groups"])
def test_rows_are_rounded_in_parts_with_the_same_result(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = made(kind, "channel4")
    whole = given.changes(GPTQ)
    (layer,) = rounded_layers(given.candidate)
    monkeypatch.setattr("qreg.algorithms.hessian.PART", layer.weight.numel() // 2)
    assert len([*layer.parts()]) > 1
    assert layer.weight.dtype == torch.float32
    for before, after in zip(whole, given.changes(GPTQ), strict=True):
        assert torch.equal(before.constants[WEIGHT], after.constants[WEIGHT])


@pytest.mark.parametrize(
    ("kind", "columns"), [("linear", 7), ("conv2d", 24), ("transposed1d", 16), ("grouped", 18)]
)
def test_a_layer_with_too_many_columns_is_left(
    kind: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "LARGEST_LINEAR" if kind == "linear" else "LARGEST"
    for most, count in ((columns, 1), (columns - 1, 0)):
        monkeypatch.setattr(f"qreg.algorithms.hessian.{name}", most)
        assert len(made(kind, "channel8").changes(GPTQ)) == count
