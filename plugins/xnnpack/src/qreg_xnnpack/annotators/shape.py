"""Operators that pool, clip or move values: input and output share qparams.

``adaptive_avg_pool2d`` can start an int8 island; the others only extend an existing island.
"""

from __future__ import annotations

from qreg import Annotator, patterns
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

CARRYING = (
    carrying("max_pool2d", MAX_POOL2D, pool_window),
    carrying("relu", RELU),
    carrying("clamp", CLAMPS, clamped_around_zero, ordered_bounds),
    carrying("mean", MEANS, spatial_mean, kept_mean),
    carrying("permute", PERMUTES),
    carrying("view", RESHAPES, static_shape),
    carrying("slice", SLICE, contiguous_slice),
    carrying("unsqueeze", UNSQUEEZE, trailing_dimension),
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
