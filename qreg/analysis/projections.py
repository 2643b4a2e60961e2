"""Estimate powers from a few random projections of each.

The mean square of a few projections is right on average, but noisy: with 16, by 1.5 dB. The
products of gradient and error, summed by channel, squared and added, are hardly noisy, but wrong by
what the channels have in common. The two are combined, as an empirical Bayes estimate does: in
logarithms, the second, with the average difference added, is the expectation of a prior, whose
variance is what the differences vary more than projections do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from attrs import define, frozen
from torch import Tensor

CHANNELS = 1  # axis
FEWEST = 8  # patterns whose differences have a variance

Key = TypeVar("Key")


@frozen
class Power:
    """A projection, and the sum of the squares of its channels' parts."""

    projection: float
    channels: float

    @classmethod
    def of(cls, products: Tensor) -> Power:
        """Return the power of the products of gradient and error, of the shape of an output."""
        axis = CHANNELS if products.dim() > CHANNELS else 0
        rows = products.movedim(axis, 0) if products.dim() else products.reshape(1)
        parts = rows.reshape(len(rows), -1).sum(1)
        return cls(float(products.sum()), float(parts.square().sum()))

    def __add__(self, other: Power) -> Power:
        return Power(self.projection + other.projection, self.channels + other.channels)


@define
class _Sums:
    """Over samples: of the mean square of projections, its variance, and that of channels."""

    power: float = 0.0
    variance: float = 0.0
    channels: float = 0.0

    def add(self, found: Sequence[Power]) -> None:
        squares = [each.projection**2 for each in found]
        mean = math.fsum(squares) / len(squares)
        self.power += mean
        self.channels += math.fsum(each.channels for each in found) / len(found)
        if len(squares) > 1:
            spread = math.fsum((each - mean) ** 2 for each in squares) / (len(squares) - 1)
            self.variance += spread / len(squares)


def powers(samples: Iterable[Sequence[Mapping[Key, Power]]]) -> dict[Key, float]:
    """Return the power of each key, summed over samples, from several projections of each."""
    sums: dict[Key, _Sums] = defaultdict(_Sums)
    for projections in samples:
        for key in {key: None for each in projections for key in each}:
            sums[key].add([each[key] for each in projections if key in each])
    found = {key: each for key, each in sums.items() if each.power and each.channels}
    combined = _combined(found) if len(found) >= FEWEST else {}
    return {key: combined.get(key, each.power) for key, each in sums.items()}


def _combined(sums: Mapping[Key, _Sums]) -> dict[Key, float]:
    """Combine the estimates; by the delta method, a logarithm varies as the relative power does."""
    noise = _mean([each.variance / each.power**2 for each in sums.values()])
    ratios = {key: math.log(each.power / each.channels) for key, each in sums.items()}
    middle = _mean(list(ratios.values()))
    varied = _mean([(ratio - middle) ** 2 for ratio in ratios.values()])
    trust = max(varied - noise, 0.0) / varied if varied else 1.0
    return {
        key: each.channels * math.exp(middle + trust * (ratios[key] - middle))
        for key, each in sums.items()
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
