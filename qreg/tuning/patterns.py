"""The quantized patterns of a model: what each costs the outputs, and what it costs to move it.

The noise of a pattern is that of the outputs if the pattern alone is quantized, see
:mod:`qreg.analysis.sensitivity`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import evolve, field, frozen

from qreg.report.values import Operator, ReportData
from qreg.tuning.values import FLOAT, Place

# The time of an operator relative to the same in float: on CPUs, int8 programs run in 0.3 to 0.5 of
# it. Operators that compute ranges, or read more bits, are between. Times of single operators are
# not measured: each would be lowered alone, which takes longer than all trials of a search.
STATIC, FINER = 0.4, 0.6


@frozen
class Pattern:
    """Operators that are quantized together.

    ``noises`` are the powers of the noise at the outputs relative to the signal, by the config of
    the pattern; that in float is 0. ``work`` is what the pattern computes: its multiply-accumulates
    and the elements of its outputs. ``borders`` are the elements that it reads from each operator
    outside, by its name.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    config: str
    noises: Mapping[str, float]
    work: float
    borders: Mapping[str, float] = field(factory=dict)

    @property
    def noise(self) -> float:
        """The noise in the config that the pattern has now."""
        return self.noises[self.config]

    def cost(self, config: str) -> float:
        """Return what it costs to give the pattern another config, in units of its work."""
        if config == self.config:
            return 0.0
        return ((1.0 if config == FLOAT else FINER) - STATIC) * self.work


def patterns(
    report: ReportData, others: Mapping[str, Mapping[Place, float]] | None = None
) -> list[Pattern]:
    """Return the quantized patterns of a report with sensitivities, in the order of the graph.

    ``others`` are the noise powers in other configs, by the place of a pattern's first operator.
    """
    grouped: dict[tuple[str, ...], list[Operator]] = defaultdict(list)
    for each in report.operators:
        if each.quantized:
            grouped[each.pattern or (each.name,)].append(each)
    elements = {each.name: _elements(each) for each in report.operators}
    return [
        Pattern(
            names=names,
            places=tuple(map(place, group)),
            config=str(group[0].config),
            noises=_noises(group[0], others or {}),
            work=sum(each.macs - each.float_macs + _elements(each) for each in group),
            borders={
                name: elements.get(name, 0.0)
                for each in group
                for name in each.inputs
                if name not in names
            },
        )
        for names, group in grouped.items()
    ]


def joined(found: Sequence[Pattern], readers: Iterable[Collection[str]]) -> list[Pattern]:
    """Return the patterns, with those that read a constant together as one pattern.

    ``readers`` are the operators that read each constant. A weight that one reader has in int8 and
    another in float would be in the program twice.
    """
    owner = {name: each.names for each in found for name in each.names}
    groups = {each.names: [each] for each in found}
    for names in readers:
        keys = dict.fromkeys(owner[name] for name in sorted(names) if name in owner)
        first, *others = keys or [()]
        for key in others:
            groups[first] += groups.pop(key)
            owner |= {name: first for each in groups[first] for name in each.names}
    return [_one(group) for group in groups.values()]


def _one(group: Sequence[Pattern]) -> Pattern:
    configs = set.intersection(*(set(each.noises) for each in group))
    names = tuple(name for each in group for name in each.names)
    borders = {key: size for each in group for key, size in each.borders.items()}
    return Pattern(
        names=names,
        places=tuple(place for each in group for place in each.places),
        config=group[0].config,
        noises={
            config: math.fsum(each.noises[config] for each in group) for config in sorted(configs)
        },
        work=sum(each.work for each in group),
        borders={name: size for name, size in borders.items() if name not in names},
    )


def with_guesses(found: Sequence[Pattern], names: Collection[str]) -> list[Pattern]:
    """Return patterns in which those of unknown noise have the largest known noise.

    ``names`` are the operators of patterns whose noise is not known, which may be the worst.
    """
    largest = max((each.noise for each in found), default=0.0)
    return [
        evolve(each, noises={**each.noises, each.config: largest})
        if names and not set(names).isdisjoint(each.names)
        else each
        for each in found
    ]


def _noises(first: Operator, others: Mapping[str, Mapping[Place, float]]) -> dict[str, float]:
    found = {name: known[place(first)] for name, known in others.items() if place(first) in known}
    return {**found, str(first.config): power(first.isolated_sqnr), FLOAT: 0.0}


def place(operator: Operator) -> Place:
    """Return where an operator is."""
    return Place(operator.module, operator.operator, operator.ordinal)


def power(sqnr: float | None) -> float:
    """Return the power of the noise relative to the signal; 0 for an SQNR that is not known."""
    return 0.0 if sqnr is None or math.isinf(sqnr) else 10 ** (-sqnr / 10)


def total(found: Iterable[Pattern]) -> float:
    """Return the noise of all patterns as far as the noises of patterns add up."""
    return math.fsum(each.noise for each in found)


def _elements(operator: Operator) -> float:
    return float(math.prod(size or 1 for size in operator.shape or ()))
