"""The bits of each layer of a model, chosen for a size, and the program that has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import ConfigError, InputError

SMALL, LARGE = "int4_dynamic_groupwise_64", "int8_dynamic_per_channel"


class Stack(nn.Module):
    """Four layers of a residual network; the error of the first one is much louder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(128, 128)
        self.rest = nn.Sequential(*(nn.Linear(128, 128) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        x = 20 * self.first(x)
        for each in self.rest:
            x = x + each(torch.tanh(x))
        return x


MODEL = Stack().eval()
BATCHES = [(torch.randn(4, 128),) for _ in range(4)]


@pytest.fixture(scope="module")
def allocation() -> qreg.Allocation:
    options = {"configs": (SMALL, LARGE), "calibration": BATCHES, "progress": False}
    return qreg.allocate_bits(MODEL, BATCHES[0], bits=5.3, **options)


def test_the_layer_that_costs_most_gets_8_bits(allocation: qreg.Allocation) -> None:
    pairs = zip(allocation.weights, allocation.configs, strict=True)
    configs = {weight.places[0].module: config for weight, config in pairs}
    assert configs == {"first": LARGE, **{f"rest.{n}": SMALL for n in range(3)}}
    assert allocation.bits == pytest.approx((3 * 4.25 + 8.25) / 4)
    assert str(allocation) == f"5.25 bits per weight: 3 in {SMALL}, 1 in {LARGE}"


def test_the_program_has_the_bits_and_less_noise_than_4_bits_alone(
    allocation: qreg.Allocation,
) -> None:
    options = {"calibration": BATCHES, "progress": False}
    mixed = qreg.quantize(MODEL, BATCHES[0], quantizer=allocation.quantizer, **options)
    small = qreg.quantize(MODEL, BATCHES[0], config=SMALL, **options)
    assert mixed.verification is not None
    assert small.verification is not None
    assert mixed.verification.to_float[0].sqnr > small.verification.to_float[0].sqnr + 3
    weights = [each.reads[1] for each in mixed.lowered.operators or () if "Fully" in each.operator]
    assert sorted(weights) == ["qbint4", "qbint4", "qbint4", "qcint8"]
    more = len(mixed.program) - len(small.program)
    assert more == pytest.approx(128 * 128 * (8.25 - 4.25) / 8, abs=1024)


def test_a_search_from_4_bits_gives_8_to_the_layer_that_costs_most() -> None:
    with torch.no_grad():
        wanted = MODEL(BATCHES[0][0])

    def error(run: Callable[..., Tensor]) -> float:
        return float((run(BATCHES[0][0]) - wanted).norm() / wanted.norm())

    tuned = qreg.tune(
        MODEL,
        BATCHES[0],
        calibration=BATCHES,
        evaluate=error,
        target=0.06,
        lower_is_better=True,
        configs={"xnnpack": SMALL},
        algorithms=(),
        budget=3,
        progress=False,
    )
    assert tuned.trials[0].metric > 0.06
    assert tuned.best is not None
    moves = {each.name: each.config for each in tuned.best.variant.moves}
    assert tuned.best.met, (tuned.trials[0].metric, tuned.best.metric)
    assert moves == {"first": LARGE}


def test_mistakes_are_named_before_any_work() -> None:
    options = {"calibration": BATCHES, "progress": False}
    with pytest.raises(InputError, match=r"bits: .*at least 4\.25"):
        qreg.allocate_bits(MODEL, BATCHES[0], bits=3, configs=(SMALL, LARGE), **options)
    with pytest.raises(ConfigError, match=r"configs: none quantizes a weight"):
        qreg.allocate_bits(torch.nn.ReLU(), BATCHES[0], bits=5, configs=(SMALL,), **options)
