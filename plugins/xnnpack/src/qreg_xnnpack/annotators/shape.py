"""Operators that pool, clip or move values: input and output share qparams.

``adaptive_avg_pool2d`` can start an int8 island; the others only extend an existing island.
"""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.annotators.annotate import shared_in_and_out
from qreg.annotators.builders import carrying
from qreg.annotators.rules import quantized_operands, static_shape
from qreg.graph.operators import CLAMPS, MAX_POOL2D, PERMUTES, RELU, RESHAPES, SLICE, UNSQUEEZE
from qreg_xnnpack.delegate import (
    around_zero,
    contiguous_slice,
    ordered_bounds,
    pool_window,
    pooled_to_one,
    spatial_mean,
    trailing_dimension,
)

CARRYING = (
    carrying("max_pool2d", MAX_POOL2D, pool_window),
    carrying("relu", RELU),
    carrying("clamp", CLAMPS, ordered_bounds, around_zero),
    carrying("mean", ("aten.mean.dim",), spatial_mean),
    carrying("permute", PERMUTES),
    carrying("view", RESHAPES, static_shape),
    carrying("slice", SLICE, contiguous_slice),
    carrying("unsqueeze", UNSQUEEZE, trailing_dimension),
)

ANNOTATORS = (
    Annotator(
        "adaptive_avg_pool2d",
        ("aten.adaptive_avg_pool2d.default",),
        patterns.operands(0),
        rules=(quantized_operands, pooled_to_one),
        annotate=shared_in_and_out,
        summary="global average pooling",
    ),
    *CARRYING,
)
