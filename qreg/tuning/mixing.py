"""Choose which patterns leave the config of the rest, for as little as possible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import define, field, frozen

from qreg.tuning.patterns import Pattern, total
from qreg.tuning.values import FLOAT, Move

Names: TypeAlias = tuple[str, ...]

STEP = 0.7  # the noise of a level relative to that of the level before, at most
SMALLEST = 1e-4  # of the noise of all patterns, or of the signal: the least that is aimed for
CHEAP = 1e-3  # the least cost of a move, as a share of the work of a pattern


@frozen
class Level:
    """Moves, and the share of the noise of all patterns that they are expected to leave."""

    left: float
    moves: tuple[Move, ...]


def levels(patterns: Sequence[Pattern]) -> list[Level]:
    """Return several sets of moves, each of which leaves less noise than the one before.

    Patterns are moved one after another, each time the one that takes away the most noise for its
    cost. A conversion between int8 and float at a border costs as much as its elements, so that an
    island of float in the middle costs two, and a pattern next to one costs less. In each level,
    the moves that turn out not to be needed for its noise are taken back.
    """
    whole = total(patterns)
    found: list[Level] = []
    mix = Mix(patterns)
    least = SMALLEST * min(whole, 1.0)  # next to one that drowns the signal, others are little
    while mix.left > least and mix.step():
        if mix.left <= STEP * (found[-1].left if found else 1.0) * whole:
            found.append(mix.level(whole))
    return found


@define
class Mix:
    """Patterns, and the configs of those that were moved. ``left`` is the noise that remains."""

    patterns: Sequence[Pattern]
    chosen: dict[Names, str] = field(factory=dict, init=False)
    left: float = field(init=False)
    _around: Mapping[Names, Sequence[tuple[Names, float]]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.left = total(self.patterns)
        self._around = _neighbours(self.patterns)

    def step(self) -> bool:
        """Move the pattern that takes away the most noise for its cost; False if none does.

        The last pattern that is quantized does not go to float.
        """
        best = max(self._steps(), default=None, key=lambda each: each[0])
        if best is None:
            return False
        _, pattern, config = best
        self.left -= self._noise(pattern) - pattern.noises[config]
        self.chosen[pattern.names] = config
        return True

    def level(self, whole: float) -> Level:
        """Return the moves so far, without those that are not needed for the noise so far."""
        needed, left = dict(self.chosen), self.left
        moved = [each for each in self.patterns if each.names in needed]
        for pattern in sorted(moved, key=lambda each: each.noise):
            more = left + pattern.noise - pattern.noises[needed[pattern.names]]
            if more <= 1.02 * self.left:
                del needed[pattern.names]
                left = more
        made = (
            Move(each.places, needed[each.names], each.noise / whole)
            for each in moved
            if each.names in needed
        )
        return Level(left / whole, tuple(made))

    def _config(self, pattern: Pattern) -> str:
        return self.chosen.get(pattern.names, pattern.config)

    def _noise(self, pattern: Pattern) -> float:
        return pattern.noises[self._config(pattern)]

    def _steps(self) -> Iterator[tuple[float, Pattern, str]]:
        """Yield the moves that take noise away, each with its gain for its cost."""
        is_last = sum(self._config(each) != FLOAT for each in self.patterns) == 1
        for pattern in self.patterns:
            for config, noise in pattern.noises.items():
                gain = self._noise(pattern) - noise
                if gain > 0 and not (is_last and config == FLOAT):
                    cost = pattern.cost(config) - pattern.cost(self._config(pattern))
                    if config == FLOAT:
                        cost += self._conversions(pattern)
                    least = CHEAP * abs(pattern.work) or 1e-12
                    yield gain / max(cost, least), pattern, config

    def _conversions(self, pattern: Pattern) -> float:
        """Return the elements to convert around a pattern, less those that no longer are."""
        return math.fsum(
            -elements if self.chosen.get(names) == FLOAT else elements
            for names, elements in self._around[pattern.names]
        )


def _neighbours(patterns: Sequence[Pattern]) -> dict[Names, list[tuple[Names, float]]]:
    """Return the patterns that each pattern reads, or that read it, with the elements between."""
    owners = {name: each.names for each in patterns for name in each.names}
    found: dict[Names, list[tuple[Names, float]]] = {each.names: [] for each in patterns}
    for pattern in patterns:
        for name, elements in pattern.borders.items():
            if name in owners:
                found[pattern.names].append((owners[name], elements))
                found[owners[name]].append((pattern.names, elements))
    return found
