"""The patterns of a report, by what each alone costs the outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from attrs import frozen


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


def sensitivities(
    measured: Iterable[tuple[tuple[str, ...], str, float | None]],
) -> tuple[Sensitivity, ...]:
    """Return the patterns that were measured, the largest drop first.

    ``measured`` are the pattern, the module and the SQNR of the outputs for each operator. The
    first operator of a pattern counts.
    """
    found: dict[tuple[str, ...], tuple[str, float]] = {}
    for pattern, module, sqnr in measured:
        if sqnr is not None:
            found.setdefault(pattern, (module, sqnr))
    powers = {pattern: 10 ** (-sqnr / 10) for pattern, (_, sqnr) in found.items()}
    total = math.fsum(powers.values())
    made = [
        _sensitivity(pattern, *of, powers[pattern] / total if total else 0.0)
        for pattern, of in found.items()
    ]
    return tuple(sorted(made, key=lambda each: -each.share))


def _sensitivity(pattern: tuple[str, ...], module: str, sqnr: float, share: float) -> Sensitivity:
    drop = 10 * math.log10(1 / (1 - share)) if share < 1 else math.inf
    return Sensitivity(pattern, module, sqnr, drop, share)
