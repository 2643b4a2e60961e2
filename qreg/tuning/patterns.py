"""The quantized patterns of a model: what each costs the outputs, and what it costs to move it.

The noise of a pattern is that of the outputs if the pattern alone is quantized, see
:mod:`qreg.analysis.sensitivity`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attrs import field, frozen

from qreg.report.values import Operator, ReportData
from qreg.tuning.values import FLOAT, Place

# The work of an operator relative to the same in float: on the CPUs of the backends, int8 programs
# run in 0.3 to 0.5 of the time. Operators that compute the ranges of activations are between.
STATIC, DYNAMIC = 0.4, 0.6


@frozen
class Pattern:
    """Operators that are quantized together.

    ``noises`` are the powers of the noise at the outputs relative to the signal, by the config of
    the pattern; that in float is 0. ``work`` is what the pattern costs in float, in microseconds if
    ``is_timed``, else in multiply-accumulates and elements. ``saved`` is the part of it that int8
    saves. ``borders`` are the elements that it reads from each pattern or operator, by its name.
    """

    names: tuple[str, ...]
    places: tuple[Place, ...]
    config: str
    noises: Mapping[str, float]
    work: float
    saved: float
    borders: Mapping[str, float] = field(factory=dict)

    @property
    def noise(self) -> float:
        """The noise in the config that the pattern has now."""
        return self.noises[self.config]

    def cost(self, config: str) -> float:
        """Return what it costs to give the pattern another config."""
        if config == FLOAT:
            return self.saved
        return 0.0 if config == self.config else (DYNAMIC - STATIC) * self.work


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
    counted = [_counted(group) for group in grouped.values()]
    timed = [_timed(group) for group in grouped.values()]
    works = [pair for pair in timed if pair is not None]
    rate = 1.0
    if len(works) == len(counted):
        rate = sum(work for work, _ in works) / (sum(work for work, _ in counted) or 1.0)
    else:
        works = counted
    elements = {each.name: rate * _elements(each) for each in report.operators}
    return [
        Pattern(
            names=names,
            places=tuple(map(place, group)),
            config=str(group[0].config),
            noises=_noises(group[0], others or {}),
            work=work,
            saved=saved,
            borders={
                name: elements.get(name, 0.0)
                for each in group
                for name in each.inputs
                if name not in names
            },
        )
        for (names, group), (work, saved) in zip(grouped.items(), works, strict=True)
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


def _timed(group: Sequence[Operator]) -> tuple[float, float] | None:
    """Return the microseconds in float, and those that int8 saves, which may be negative."""
    before, after = group[0].float_microseconds, group[0].microseconds
    return None if before is None or after is None else (before, before - after)


def _counted(group: Sequence[Operator]) -> tuple[float, float]:
    work = sum(each.macs + _elements(each) for each in group)
    return work, (1 - STATIC) * work


def _elements(operator: Operator) -> float:
    return float(math.prod(size or 1 for size in operator.shape or ()))
