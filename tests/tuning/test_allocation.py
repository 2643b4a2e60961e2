"""The choice of a config for each weight, against trying all of them and a count by hand."""

from __future__ import annotations

import itertools
import random

import pytest

from qreg.configs.factory import INT4, SYMMETRIC_INT8, weight_spec
from qreg.configs.groups import groupwise_spec
from qreg.errors import InputError
from qreg.tuning.allocation import Weight, allocated, average_bits, check_bits, stored_bits
from qreg.tuning.values import Place

BITS = {"four": 4.25, "five": 5.5, "eight": 8.0}


def weights(count: int, seed: int) -> list[Weight]:
    """Return weights of any size, whose noise falls with the bits but for an odd one."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        elements = 64 * chance.randint(1, 40)
        noise = 10 ** chance.uniform(-6, 0)
        shares = {"four": 1.0, "five": chance.uniform(0, 1.1), "eight": chance.uniform(0, 0.1)}
        names = [name for name in BITS if name == "four" or chance.random() < 0.9]
        found.append(
            Weight(
                places=(Place(f"layer{number}", "aten.linear.default", 0),),
                elements=elements,
                bits={name: int(BITS[name] * elements) for name in names},
                noises={name: noise * shares[name] for name in names},
            )
        )
    return found


def noise(given: list[Weight], configs: list[str]) -> float:
    return sum(each.noises[name] for each, name in zip(given, configs, strict=True))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bits", [4.25, 4.6, 5.5, 8.0])
def test_no_other_choice_within_the_size_has_less_noise(seed: int, bits: float) -> None:
    given = weights(7, seed)
    chosen = allocated(given, bits)
    every = (list(each) for each in itertools.product(*(weight.configs for weight in given)))
    least = min(noise(given, each) for each in every if average_bits(given, each) <= bits)
    assert average_bits(given, chosen) <= bits
    assert noise(given, chosen) == pytest.approx(least, rel=1e-4)


def test_weights_without_noise_get_the_fewest_bits() -> None:
    given = [Weight((), 64, {"four": 272, "eight": 512}, {"four": 0.0, "eight": 0.0})]
    assert allocated(given, 8.0) == ["four"]


def test_too_few_bits_are_an_error_with_the_least_number() -> None:
    with pytest.raises(InputError, match=r"bits: .* 4 bits .*at least 4\.25"):
        allocated(weights(3, 0), 4.0)


@pytest.mark.parametrize("bits", [0, -4.5, float("nan"), float("inf"), True, "4", None])
def test_bits_are_a_positive_number(bits: object) -> None:
    with pytest.raises(InputError, match=r"bits: it is .* \(expected a positive number"):
        check_bits(bits)


def test_scales_count_in_the_size() -> None:
    """Of 6 x 256 elements: the bits of the backend for each group of 64, 32 for each channel."""
    shape = (6, 256)
    for bits in (16, 32):
        assert stored_bits(groupwise_spec(INT4, 64), shape, bits) == 4 * 1536 + bits * 24
    whole, rows = (weight_spec(SYMMETRIC_INT8, per_channel=each) for each in (False, True))
    assert stored_bits(whole, shape, 16) == 8 * 1536 + 32
    assert stored_bits(rows, shape, 16) == 8 * 1536 + 32 * 6
