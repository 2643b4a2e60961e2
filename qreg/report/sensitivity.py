"""The patterns of a report, by what each alone costs the outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from qreg.report.values import Operator


@frozen
class Sensitivity:
    """What quantizing one pattern, with all else in float, costs the outputs of the model.

    ``sqnr`` is the SQNR of the outputs in dB if the pattern alone is quantized; infinite for a
    pattern that adds no noise. ``share`` is the pattern's part of the noise powers of all patterns,
    from 0 to 1. ``drop`` is what that part costs in dB, ``-10 log10(1 - share)``: the outputs gain
    so much if the pattern is kept in float, as far as the noises of patterns add up.
    """

    pattern: tuple[str, ...]
    module: str
    sqnr: float
    drop: float
    share: float


def sensitivities(operators: Iterable[Operator]) -> tuple[Sensitivity, ...]:
    """Return the patterns that were measured, the largest drop first."""
    found: dict[tuple[str, ...], Operator] = {}
    for each in operators:
        if each.isolated_sqnr is not None:
            found.setdefault(each.pattern or (each.name,), each)
    powers = {key: 10 ** (-(each.isolated_sqnr or 0.0) / 10) for key, each in found.items()}
    total = math.fsum(powers.values())
    made = [
        _sensitivity(key, each, powers[key] / total if total else 0.0)
        for key, each in found.items()
    ]
    return tuple(sorted(made, key=lambda each: -each.share))


def _sensitivity(pattern: tuple[str, ...], operator: Operator, share: float) -> Sensitivity:
    assert operator.isolated_sqnr is not None
    drop = 10 * math.log10(1 / (1 - share)) if share < 1 else math.inf
    return Sensitivity(pattern, operator.module, operator.isolated_sqnr, drop, share)
