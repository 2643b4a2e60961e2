"""Operators that pool, clip or move values: input and output have the same parameters.

``adaptive_avg_pool2d`` starts an int8 island by itself; the others only carry one on.
"""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.annotation import shared_in_and_out, shared_with_producer
from qreg.model import Rule
from qreg_xnnpack.delegate import (
    contiguous_slice,
    int8_operands,
    ordered_bounds,
    pool_window,
    pooled_to_one,
    spatial_mean,
    static_shape,
    trailing_dimension,
)


def _carrying(name: str, targets: tuple[str, ...], *rules: Rule) -> Annotator:
    return Annotator(
        name,
        targets,
        patterns.operands(0),
        rules=rules,
        annotate=shared_with_producer,
        summary="on the parameters of its input",
    )


def _starting() -> Annotator:
    return Annotator(
        "adaptive_avg_pool2d",
        ("aten.adaptive_avg_pool2d.default",),
        patterns.operands(0),
        rules=(int8_operands, pooled_to_one),
        annotate=shared_in_and_out,
        summary="global average pooling",
    )


CLAMPS = ("aten.hardtanh.default", "aten.relu6.default", "aten.clamp.default")
RESHAPES = ("aten.view.default", "aten.reshape.default", "aten.flatten.using_ints")

CARRYING = (
    _carrying("max_pool2d", ("aten.max_pool2d.default",), pool_window),
    _carrying("relu", ("aten.relu.default",)),
    _carrying("clamp", CLAMPS, ordered_bounds),
    _carrying("mean", ("aten.mean.dim",), spatial_mean),
    _carrying("permute", ("aten.permute.default", "aten.transpose.int")),
    _carrying("view", RESHAPES, static_shape),
    _carrying("slice", ("aten.slice.Tensor",), contiguous_slice),
    _carrying("unsqueeze", ("aten.unsqueeze.default",), trailing_dimension),
)

ANNOTATORS = (_starting(), *CARRYING)
