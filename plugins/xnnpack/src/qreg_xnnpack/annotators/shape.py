"""Operators that pool, clip or move values: input and output share qparams.

``adaptive_avg_pool2d`` can start an int8 island; the others only extend an existing island.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from qreg import Annotator, Rule, patterns
from qreg.annotators.annotate import shared_in_and_out
from qreg.annotators.builders import carrying
from qreg.annotators.rules import (
    clamped_around_zero,
    pooled_to_one,
    quantized_operands,
    spatial_mean,
    static_shape,
)
from qreg.graph.operators import (
    CLAMPS,
    GLOBAL_POOLS,
    MAX_POOL2D,
    MEANS,
    PERMUTES,
    RELU,
    RESHAPES,
    SLICE,
    UNSQUEEZE,
)
from qreg_xnnpack.delegate import (
    contiguous_slice,
    kept_mean,
    ordered_bounds,
    pool_window,
    trailing_dimension,
)

# What the transforms of the backend rewrite as calls that the annotators start from.
REWRITTEN = {
    "mean": "other means and pools of the whole window become this one",
    "permute": "movedim, swapaxes and the pixel and channel shuffles become permutes and views",
    "view": "squeeze, and unsqueeze of other dimensions, become views",
    "slice": "chunk, split, unbind, select and narrow become slices and views",
}


def _carrying(name: str, targets: Sequence[str], *rules: Rule) -> Annotator:
    found, rewritten = carrying(name, targets, *rules), REWRITTEN.get(name)
    return evolve(found, summary=f"{found.summary}; {rewritten}") if rewritten else found


CARRYING = (
    _carrying("max_pool2d", MAX_POOL2D, pool_window),
    _carrying("relu", RELU),
    _carrying("clamp", CLAMPS, clamped_around_zero, ordered_bounds),
    _carrying("mean", MEANS, spatial_mean, kept_mean),
    _carrying("permute", PERMUTES),
    _carrying("view", RESHAPES, static_shape),
    _carrying("slice", SLICE, contiguous_slice),
    _carrying("unsqueeze", UNSQUEEZE, trailing_dimension),
)

ANNOTATORS = (
    Annotator(
        "adaptive_avg_pool2d",
        GLOBAL_POOLS,
        patterns.operands(0),
        rules=(quantized_operands, pooled_to_one),
        annotate=shared_in_and_out,
        summary="global average pooling",
    ),
    *CARRYING,
)
