"""Pins equalization across layers against its formulas, and that it never changes an output."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from candidates import candidate, constant, exported, seen, written
from torch import Tensor, nn

from qreg import Change, Registry
from qreg.algorithms import equalize

WEIGHT, BIAS = 1, 2


def changed(registry: Registry, model: nn.Module, batches: list[Tensor]) -> list[Change]:
    graph = exported(model, batches[0])
    return list(equalize.changes(candidate(registry, graph), seen(graph, batches)))


def images(*shape: int) -> list[Tensor]:
    return list(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)))


@torch.no_grad()
def spread(layer: nn.Module) -> nn.Module:
    """Give the output channels of a layer very different sizes."""
    rows = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0
    assert isinstance(layer.weight, Tensor)
    factors = torch.logspace(-2, 2, layer.weight.shape[rows])
    shape = [1] * layer.weight.dim()
    shape[rows] = -1
    layer.weight.mul_(factors.reshape(shape))
    return layer


def test_the_factors_are_those_of_the_paper(registry: Registry) -> None:
    first, second = nn.Linear(2, 3), nn.Linear(3, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[8.0, -1.0], [0.5, 2.0], [-3.0, 3.0]]))
        second.weight.copy_(torch.tensor([[2.0, 4.0, -12.0], [-1.0, 8.0, 0.0]]))
        first.bias.copy_(torch.tensor([-1.0, 1.0, -3.0]))
    x = [torch.tensor([[1.0, -1.0], [-1.0, 1.0]])]  # each channel is also below zero
    graph = exported(nn.Sequential(first, nn.ReLU(), second), x[0])
    found = list(equalize.changes(candidate(registry, graph), seen(graph, x)))
    model = written(graph, found)
    # s = sqrt(r1 * r2) / r2 = sqrt(8 * 2) / 2, sqrt(2 * 8) / 8, sqrt(3 * 12) / 12
    s = torch.tensor([2.0, 0.5, 0.5])
    torch.testing.assert_close(constant(model, "linear", WEIGHT), first.weight / s[:, None])
    torch.testing.assert_close(constant(model, "linear", BIAS), first.bias / s)
    torch.testing.assert_close(constant(model, "linear_1", WEIGHT), second.weight * s)
    torch.testing.assert_close(constant(model, "linear_1", BIAS), second.bias)
    assert [each.node for each in found] == ["linear", "linear_1"]


CHAINS: list[tuple[Callable[[], list[nn.Module]], list[int]]] = [
    (
        lambda: [nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.LeakyReLU(), nn.Linear(5, 3)],
        [7, 4],
    ),
    (
        lambda: [
            *(nn.Conv2d(3, 8, 3), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)),
        ],
        [2, 3, 9, 9],
    ),
    (
        lambda: [
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Conv2d(8, 6, 3, padding=1, groups=2),
        ],
        [2, 3, 8, 8],
    ),
    (
        lambda: [nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 3, groups=2, bias=False)],
        [2, 3, 9],
    ),
    (
        lambda: [
            *(nn.Conv2d(4, 6, 3), nn.ReLU()),
            *(nn.ConvTranspose2d(6, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)),
        ],
        [2, 4, 6, 6],
    ),
    (
        lambda: [nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), nn.ReLU(), nn.Conv2d(6, 2, 3)],
        [2, 4, 6, 6],
    ),
    (lambda: [nn.Conv3d(2, 4, 2), nn.ReLU(), nn.Conv3d(4, 3, 2)], [1, 2, 4, 4, 4]),
    (
        lambda: [
            *(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
        ],
        [2, 3, 9, 9],
    ),
    (
        lambda: [
            *(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.ZeroPad2d(1)),
            *(nn.AvgPool2d(2), nn.Conv2d(5, 3, 1)),
        ],
        [2, 3, 9, 9],
    ),
]


@pytest.mark.parametrize(("make", "shape"), CHAINS)
def test_chains_have_alike_ranges_and_the_same_outputs(
    registry: Registry, make: Callable[[], list[nn.Module]], shape: list[int]
) -> None:
    torch.manual_seed(0)
    layers = make()
    spread(layers[0])
    batches = images(*shape)
    graph = exported(nn.Sequential(*layers), batches[0])
    model = written(graph, list(equalize.changes(candidate(registry, graph), seen(graph, batches))))
    names = [
        n.name for n in graph.graph.nodes if str(n.target).startswith(("aten.conv", "aten.lin"))
    ]
    for x in batches:
        torch.testing.assert_close(model(x), graph(x), rtol=1e-4, atol=1e-4)
    assert not torch.equal(constant(model, names[0], WEIGHT), constant(graph, names[0], WEIGHT))
    assert _unevenness(model, names) < _unevenness(graph, names) / 3


def _unevenness(graph: torch.fx.GraphModule, names: list[str]) -> float:
    """Return the largest ratio between the ranges of the output channels of the first layer."""
    weight = constant(graph, names[0], WEIGHT)
    rows = 1 if "transpose" in names[0] else 0
    largest = weight.movedim(rows, 0).flatten(1).abs().amax(1)
    return float(largest.max() / largest.min())


class Bounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[5.0, 0.0], [8.0, 0.0], [0.01, 0.0]]))
            self.second.weight.copy_(torch.tensor([[100.0, 100.0, 100.0], [1.0, 1.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(nn.functional.relu6(self.first(x)))  # type: ignore[no-any-return]


def test_the_bound_of_relu6_is_reached_by_no_other_channel_than_before(registry: Registry) -> None:
    batches = [torch.tensor([[1.0, 0.0], [-1.0, 0.0]])]
    graph = exported(Bounded(), batches[0])
    model = written(graph, list(equalize.changes(candidate(registry, graph), seen(graph, batches))))
    # Channel 0 is 5 of 6, and s would be sqrt(5 / 100); it ends at the bound. Channel 1 is clipped
    # and stays. Channel 2 is far below: s = sqrt(.01 / 100).
    s = torch.tensor([5 / 6, 1.0, 0.01])
    torch.testing.assert_close(
        constant(model, "linear", WEIGHT), Bounded().first.weight / s[:, None]
    )
    torch.testing.assert_close(constant(model, "linear_1", WEIGHT), Bounded().second.weight * s)
    torch.testing.assert_close(model(batches[0]), graph(batches[0]))


class Twice(nn.Module):
    """A value that another operator reads too, or a layer that is called twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.second = kind, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.kind == "shared":
            return self.second(self.second(y).tanh() + self.first(y))  # type: ignore[no-any-return]
        return self.second(y) + y if self.kind == "sum" else self.second(y.sigmoid())


@pytest.mark.parametrize("kind", ["sum", "shared", "sigmoid"])
def test_what_others_read_or_what_is_not_linear_stays(registry: Registry, kind: str) -> None:
    batches = images(3, 4)
    graph = exported(Twice(kind), batches[0])
    assert changed(registry, Twice(kind), batches) == []
    reason = equalize.applies(candidate(registry, graph))
    assert reason == "no two layers follow each other with a ReLU or nothing between them"


def test_scopes_in_float_stay(registry: Registry) -> None:
    graph = exported(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)), torch.ones(1, 4))
    assert equalize.applies(candidate(registry, graph)) is None
    for kept in ("linear", "relu", "linear_1"):
        assert equalize.applies(candidate(registry, graph, frozenset({kept})))


def test_high_biases_move_downstream(registry: Registry) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)
    with torch.no_grad():
        first.bias.copy_(torch.tensor([10.0, 0.0, -10.0, 20.0]))
    batches = images(2, 3, 8, 8)
    graph = exported(nn.Sequential(first, nn.ReLU(), second), batches[0])
    model = written(graph, list(equalize.changes(candidate(registry, graph), seen(graph, batches))))
    one, other = first.weight.abs().amax((1, 2, 3)), second.weight.abs().amax((0, 2, 3))
    s = torch.sqrt(one * other) / other
    low = torch.stack([first(x) for x in batches]).amin((0, 1, 3, 4)) / s
    c = low.clamp(min=0)
    assert (c > 0).tolist() == [True, False, False, True]
    torch.testing.assert_close(constant(model, "conv2d", BIAS), first.bias / s - c)
    moved = (second.weight * s[:, None, None]).sum((2, 3)) @ c
    torch.testing.assert_close(constant(model, "conv2d_1", BIAS), second.bias + moved)
    for x in batches:
        torch.testing.assert_close(model(x), graph(x), rtol=1e-4, atol=1e-4)


def test_a_bias_is_not_absorbed_where_padding_reads_zeros(registry: Registry) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3, padding=1)
    nn.init.constant_(first.bias, 10.0)  # type: ignore[arg-type]
    batches = images(2, 3, 8, 8)
    graph = exported(nn.Sequential(first, nn.ReLU(), second), batches[0])
    model = written(graph, list(equalize.changes(candidate(registry, graph), seen(graph, batches))))
    assert torch.equal(constant(model, "conv2d_1", BIAS), second.bias.detach())
    torch.testing.assert_close(model(batches[0]), graph(batches[0]), rtol=1e-4, atol=1e-4)
