"""Pins how powers are estimated from a few projections."""

from __future__ import annotations

import math

import pytest
import torch

from qreg.analysis.projections import FEWEST, Power, powers


def test_a_projection_is_the_sum_and_its_channels_are_squared_apart() -> None:
    products = torch.arange(12.0).reshape(2, 3, 2)
    found = Power.of(products)
    assert found.projection == 66
    channels = [sum(float(row[each].sum()) for row in products) for each in range(3)]
    assert found.channels == sum(each**2 for each in channels)
    assert found + Power(1, 2) == Power(67, found.channels + 2)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_what_has_no_channels_is_a_sum_of_elements(shape: tuple[int, ...]) -> None:
    products = torch.full(shape, 3.0)
    assert Power.of(products).channels == 9 * products.numel()


def test_the_powers_of_few_keys_are_means_of_squares_added_over_samples() -> None:
    first = [{"a": Power(1, 5)}, {"a": Power(3, 5), "b": Power(2, 1)}]
    second = [{"a": Power(2, 5)}, {"a": Power(2, 5)}]
    assert powers([first, second]) == {"a": (1 + 9) / 2 + 4, "b": 4}


def test_projections_that_agree_are_trusted() -> None:
    sample = [{key: Power(2.0**key, 7.0) for key in range(FEWEST)}] * 2
    assert powers([sample]) == pytest.approx({key: 4.0**key for key in range(FEWEST)})


def test_noisy_projections_are_drawn_towards_the_channels() -> None:
    """The channels know every power but a common factor, so that nothing is left to trust."""
    generator = torch.Generator().manual_seed(0)
    true = {key: 10.0 ** (key / 10) for key in range(40)}

    def drawn(power: float) -> Power:
        return Power(float(torch.randn((), generator=generator)) * math.sqrt(power), 3 * power)

    samples = [[{key: drawn(power) for key, power in true.items()} for _ in range(4)]]
    errors = [10 * math.log10(power / true[key]) for key, power in powers(samples).items()]
    spread = torch.tensor(errors).std()
    alone = [sum(each[key].projection ** 2 for each in samples[0]) / 4 / true[key] for key in true]
    assert spread < 0.5 * (10 * torch.tensor(alone).log10()).std()
