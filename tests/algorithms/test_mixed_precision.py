"""Pins which values are worth operators in float, against running the model for each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from attrs import evolve
from layered import Subject, batches, subject
from quantizing import quantize
from torch import Tensor, nn

from qreg import Registry, Result
from qreg.algorithms import mixed_precision, stock
from qreg.algorithms.simulation import rounding
from qreg.analysis.sensitivity import noise_ratios
from qreg.verification.noise import decibels

FIRST, LARGE, LAST = "linear", "linear_2", "linear_3"


class Outlier(nn.Module):
    """A value between two small layers with a channel that is large and hardly read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 64)
        self.large, self.last = nn.Linear(64, 256), nn.Linear(256, 4)
        with torch.no_grad():
            self.first.weight[0] *= 3000
            self.second.weight[:, 0] *= 1e-5

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.large(self.second(self.first(x)).tanh()))


@pytest.fixture(scope="module")
def given() -> Subject:
    return subject(Outlier(), batches((32, 8)), "channel8")


def in_float(given: Subject, **options: float) -> list[str]:
    chosen = stock.mixed_precision(**{"budget": 0.05, **options})
    found = given.changes(chosen)
    assert all(each.in_float for each in found)
    return [each.node for each in found]


def test_the_producer_and_the_reader_of_the_noisiest_value_are_in_float(given: Subject) -> None:
    assert in_float(given) == [FIRST, "linear_1"]


@pytest.mark.parametrize("options", [{"budget": 0.02}, {"share": 1.1}, {"enough": -20.0}])
def test_none_is_if_it_costs_too_much_or_gains_too_little(
    given: Subject, options: dict[str, float]
) -> None:
    assert in_float(given, **options) == []


def test_more_values_are_taken_while_the_budget_lasts(given: Subject) -> None:
    assert LARGE in in_float(given, budget=1.0, share=0.0)


def test_what_the_user_keeps_in_float_is_left_alone() -> None:
    given = subject(Outlier(), batches((32, 8)), "channel8", first=None)
    assert FIRST not in in_float(given, budget=1.0, share=0.0, enough=math.inf)


def test_the_noise_is_that_of_rounding_one_value(given: Subject) -> None:
    candidate, data = given.candidate, given.calibration.samples
    values = list(mixed_precision._values(candidate))
    assert [each.names for each in values][:2] == [("x",), (FIRST,)]
    found = noise_ratios(
        candidate.reference,
        lambda seen: mixed_precision.Rounding(candidate.reference, values, seen),
        data,
    )
    for value in values:
        signal = noise = 0.0
        for batch in data:
            exact = candidate.reference(*batch)

            def alone(*pair: object) -> Tensor:
                name, output, _ = pair
                return rounding(value.observer)(output) if name == value.names else output  # noqa: B023

            rounded = mixed_precision.Rounding(candidate.reference, values, alone).run(*batch)
            signal += float(exact.square().sum())
            noise += float((exact - rounded).square().sum())
        assert abs(found[value.names] - decibels(signal, noise)) < 2


def test_hardware_of_integers_has_no_operators_in_float(given: Subject) -> None:
    backend = evolve(given.candidate.backend, simulated=True)
    reason = mixed_precision.applies(evolve(given.candidate, backend=backend))
    assert reason is not None
    assert "may not run on the hardware of 'kernels'" in reason


class Counted(list[Tensor]):
    """Batches that count how often they are read."""

    passes = 0

    def __iter__(self) -> Iterator[Tensor]:
        self.passes += 1
        return super().__iter__()


@pytest.mark.parametrize("config", ["minmax", "histogram"])
def test_what_stays_in_float_needs_no_further_pass_over_the_data(
    config: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quantized(data: Counted) -> Result:
        chosen = [stock.mixed_precision(budget=0.05)]
        given = {"calibration": data, "algorithms": chosen, "config": config, "min_sqnr": 0.0}
        return quantize(registry, Outlier().eval(), batches((32, 8))[0], **given)

    data = Counted(batches((32, 8), 8))
    found = quantized(data)
    assert found.algorithms[-1].kept
    assert data.passes == 1
    monkeypatch.setattr("qreg.pipeline.run.take_observers", lambda *_: False)
    again = Counted(data)
    (x,) = batches((32, 8), 1)
    assert torch.equal(quantized(again).run(x), found.run(x))
    assert again.passes == 2


def test_the_program_is_nearer_to_float_and_says_what_is_in_float(registry: Registry) -> None:
    data = batches((32, 8), 8)
    found = quantize(
        registry,
        Outlier().eval(),
        data[0],
        calibration=data,
        algorithms=[stock.bias_correction(), stock.mixed_precision(budget=0.05)],
        min_sqnr=0.0,
    )
    outcome = found.algorithms[-1]
    assert outcome.kept
    assert outcome.after > outcome.before + 6  # type: ignore[operator]
    reasons = {each.node: each.reason for each in found.decisions if each.status == "float"}
    assert reasons[FIRST] == mixed_precision.REASON
    assert not {LARGE, LAST} & reasons.keys()
