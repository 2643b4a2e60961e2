"""Averages of whole images; maxima keep the parameters of what they take them of.

The integer kernel for other averages is slower than the float one with its conversions.
"""

from __future__ import annotations

from collections.abc import Sequence

from qreg import Annotator, Rule, patterns
from qreg.annotators.builders import carrying, chain
from qreg.annotators.rules import nonempty, pooled_to_one, quantized_operands, spatial_mean
from qreg_onnxruntime.reach import ISLANDS, MAX_POOLS, MEANS, POOLS
from qreg_onnxruntime.rules import plain_maximum


def _average(name: str, targets: Sequence[str], rule: Rule, summary: str = "") -> Annotator:
    return chain(
        name,
        targets,
        patterns.operands(0),
        rules=(quantized_operands, rule, nonempty, ISLANDS.feeds_products),
        annotate=ISLANDS.continued,
        summary=summary,
    )


ANNOTATORS = (
    _average(
        "adaptive_avg_pool2d",
        POOLS,
        pooled_to_one,
        "global average pooling",
    ),
    _average("mean", MEANS, spatial_mean, "the mean of each channel of an image"),
    carrying("max_pool", MAX_POOLS, plain_maximum, nonempty),
)
