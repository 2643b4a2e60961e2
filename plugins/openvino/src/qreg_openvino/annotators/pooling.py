"""Averages of images; maxima keep the parameters of what they take them of."""

from __future__ import annotations

from collections.abc import Sequence

from qreg import Annotator, Rule, patterns
from qreg.annotators.builders import carrying, chain
from qreg.annotators.rules import nonempty, pooled_to_one, quantized_operands, spatial_mean
from qreg_openvino.reach import GLOBAL_POOLS, ISLANDS, MAX_POOLS, MEANS, POOLS
from qreg_openvino.rules import batched_pool, plain_average, plain_maximum


def _average(name: str, targets: Sequence[str], *rules: Rule, summary: str = "") -> Annotator:
    return chain(
        name,
        targets,
        patterns.operands(0),
        rules=(quantized_operands, *rules, nonempty, ISLANDS.feeds_products),
        annotate=ISLANDS.continued,
        summary=summary,
    )


ANNOTATORS = (
    _average("avg_pool", POOLS, batched_pool, plain_average),
    _average("adaptive_avg_pool2d", GLOBAL_POOLS, pooled_to_one, summary="global average pooling"),
    _average("mean", MEANS, spatial_mean, summary="the mean of each channel of an image"),
    carrying("max_pool", MAX_POOLS, batched_pool, plain_maximum, nonempty),
)
