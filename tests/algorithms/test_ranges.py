"""Pins the ranges of histograms to direct searches, and errors at readers to torch's results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from layered import batches, subject
from torch import Tensor, nn

from qreg.algorithms import ranges, stock
from qreg.algorithms.histograms import Histogram
from qreg.algorithms.layers import INPUT
from qreg.algorithms.simulation import Simulation
from qreg.graph.prepared import observers
from qreg.plugins.types.algorithm import Change

RANGES = stock.ranges()


def values(seed: int = 0, *, positive: bool = False) -> Tensor:
    """Values with a few outliers."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20000, generator=generator, dtype=torch.float64)
    x[:20] *= 8
    return x.abs() if positive else x


def histogram(x: Tensor, bins: int = 2048, levels: int = 256, **options: Any) -> Histogram:
    low, high = float(x.min()), float(x.max())
    counts = torch.histc(x, bins, low, high)
    return Histogram(counts, low, high, levels, options.get("symmetric", False))


def test_percentiles_leave_out_a_share_of_the_values() -> None:
    x = values()
    found = histogram(x)
    for share in (0.99, 0.9):
        low, high = found.percentile(share)
        cut = (1 - share) / 2
        assert abs(low - x.quantile(cut)) <= 2 * found.width
        assert abs(high - x.quantile(1 - cut)) <= 2 * found.width


@pytest.mark.parametrize("levels", [16, 256])
@pytest.mark.parametrize("positive", [False, True])
def test_the_least_squares_are_those_of_rounding_the_values(levels: int, positive: bool) -> None:
    x = values(positive=positive)

    def error(low: float, high: float) -> float:
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / (levels - 1)
        zero = round(-low / step)
        rounded = (((x / step).round() + zero).clamp(0, levels - 1) - zero) * step
        return float((x - rounded).square().mean())

    found = histogram(x, levels=levels)
    shares = [1 - step / 16 for step in range(14)]
    best = min(error(found.low * one, found.high * two) for one in shares for two in shares)
    assert error(*found.least_squares()) <= 1.1 * best
    assert levels == 256 or error(*found.least_squares()) < 0.5 * error(found.low, found.high)


def divergence(counts: list[float], end: int, levels: int) -> float:
    """TensorRT's calibration (Migacz, 2017), step by step in Python."""
    reference = counts[:end]
    reference[-1] += sum(counts[end:])
    spread = [0.0] * end
    for level in range(levels):
        mine = [bin_ for bin_ in range(end) if bin_ * levels // end == level]
        filled = [bin_ for bin_ in mine if reference[bin_] > 0]
        for bin_ in filled:
            spread[bin_] = sum(counts[each] for each in mine) / len(filled)
    p, q = (np.array(each) / sum(each) for each in (reference, spread))
    if ((q == 0) & (p > 0)).any():
        return math.inf
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


def test_the_entropy_is_that_of_tensorrt() -> None:
    found = histogram(values(positive=True), bins=96, levels=32)
    found = Histogram(found.counts, 0.0, found.high, 32, symmetric=False)
    ends = [*dict.fromkeys([*range(32, 97, 2), 96])]
    best = min(ends, key=lambda end: divergence(found.counts.tolist(), end, 32))
    low, high = found.least_entropy()
    assert low == 0
    assert math.isclose(high, best / 96 * found.high)
    assert high < found.high


class Two(nn.Module):
    """A layer that reads a value with outliers which only the first output channel sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def spiked() -> list[tuple[Tensor]]:
    """Inputs with a rare outlier in a channel."""
    made = batches((64, 6))
    for (x,) in made:
        x[0, 0] = 60.0
    return made


@pytest.mark.parametrize("sign", [1, -1])
def test_few_values_far_from_zero_have_ranges_in_order(sign: int) -> None:
    """The magnitudes below the lowest value are empty, where the divergence is 0."""
    found = histogram(sign * torch.linspace(0.3, 0.8, 16, dtype=torch.float64))
    for low, high in found.ranges():
        assert low <= high


def test_errors_are_those_at_the_output_of_the_reader() -> None:
    data, model = batches((16, 6), ranges.WALKED), Two()
    given = subject(model, data, "channel8")
    choices = list(ranges._choices(given.candidate))
    with torch.no_grad():
        ranges._measure(given.candidate.reference, given.calibration, choices)
        entering = next(each for each in choices if each.name == "x")
        x = torch.cat([each for (each,) in data])
        exact = model(x)
        for range_, error in zip(entering.ranges[1:], entering.errors[1:], strict=True):
            assert range_ is not None
            low, high = range_[0].clamp(max=0), range_[1].clamp(min=0)
            step = (high - low) / 255
            zero = (-low / step).round()
            rounded = (((x / step).round() + zero).clamp(0, 255) - zero) * step
            expected = (exact - model(rounded)).square().sum() / exact.square().sum()
            assert math.isclose(error, float(expected), rel_tol=1e-3)


def noise(graph: Any, reference: Any, data: list[tuple[Tensor]]) -> float:
    pairs = [(reference(*each), Simulation(graph).run(*each)) for each in data]
    return float(sum((one - two).square().sum() for one, two in pairs))


def test_the_model_is_nearer_to_float() -> None:
    """Dead inputs: the outliers have no weight, so a range without them is best."""
    model = Two()
    model.fc.weight.data[:, 0] = 0
    data = spiked()
    given = subject(model, data, "channel8")
    with torch.no_grad():
        changes = given.changes(RANGES)
        before = noise(given.changed(), given.candidate.reference, data)
        after = noise(given.changed(*changes), given.candidate.reference, data)
    assert {"x"} <= {each.node for each in changes}
    assert after < 0.5 * before


def test_of_all_proposals_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 4.0, 2.0, 5.0, *[3.5] * 10])
    proposals: list[list[Change]] = []

    def loss(*given: Any) -> float:
        proposals.append(given[-1])
        return next(losses)

    monkeypatch.setattr(ranges, "_loss", loss)
    given = subject(Two(), spiked(), "channel8")
    assert given.changes(RANGES) == proposals[2]
    assert proposals[0] == []
    for others in (2.0, 1.0 - 0.9 * ranges.LEAST):  # as chance would have it
        losses = iter([1.0, *[others] * 10])
        assert given.changes(RANGES) == []


def test_observers_without_a_histogram_are_left() -> None:
    given = subject(Two(), spiked(), "channel8")
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    names = [each.name for each in ranges._choices(given.candidate)]
    fixed = given.changed(*(Change(name, range=(zero, one)) for name in names))
    candidate = evolve(given.candidate, model=fixed)
    assert list(RANGES.run(candidate, given.calibration)) == []


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


def test_an_observer_is_one_decision() -> None:
    given = subject(Sums(), batches((16, 6)), "channel8")
    names = [each.name for each in ranges._choices(given.candidate)]
    used = {id(each): each for each in observers(given.candidate.model).values()}
    assert len(names) == len(set(names)) == sum(hasattr(o, "histogram") for o in used.values())


def test_values_of_operators_in_float_are_left() -> None:
    given = subject(Sums(), batches((16, 6)), "channel8", left=None)
    kept = given.candidate.kept
    assert kept
    assert kept.isdisjoint(each.name for each in ranges._choices(given.candidate))


def test_the_change_is_a_range_of_an_observed_value() -> None:
    model = Two()
    model.fc.weight.data[:, 0] = 0
    given = subject(model, spiked(), "channel8")
    for change in given.changes(RANGES):
        assert isinstance(change, Change)
        assert change.range is not None
        assert not change.constants
    (layer,) = (n for n in given.candidate.model.graph.nodes if n.name == "linear")
    assert layer.args[INPUT].args[0].name == "x"


@pytest.mark.parametrize("kind", ["channel4", "tensor4"])
def test_weights_of_few_bits_are_narrowed_to_the_least_squared_error(kind: str) -> None:
    """A search of all shares in NumPy, for each channel or for the tensor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 5))
    with torch.no_grad():
        model[0].weight.copy_(torch.distributions.Laplace(0.0, 1.0).sample((5, 256)))
    data = [(torch.randn(64, 256),) for _ in range(6)]
    given = subject(model, data, kind)
    changes = given.changes(RANGES)
    (change,) = (each for each in changes if "weight" in each.node)
    weight = model[0].weight.detach().numpy()
    wanted = []
    for row in weight if kind == "channel4" else [weight.reshape(-1)]:
        largest = np.abs(row).max()
        ends = [largest * (1 - step / 16) for step in range(14)]
        errors = [
            np.square(np.clip(np.round(row / end * 7), -7, 7) * end / 7 - row).sum() for end in ends
        ]
        wanted.append(ends[int(np.argmin(errors))])
    assert change.range is not None
    assert max(wanted) < np.abs(weight).max()
    ends = torch.maximum(-change.range[0], change.range[1])
    assert ends.reshape(-1).tolist() == pytest.approx(wanted)
    with torch.no_grad():
        after = noise(given.changed(*changes), given.candidate.reference, data)
        before = noise(given.changed(), given.candidate.reference, data)
    assert after < 0.9 * before
