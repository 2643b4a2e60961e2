"""Linear layers, alone and with the clamp that the delegate fuses."""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.model import ALL_MODES
from qreg_xnnpack.delegate import (
    dynamic_per_channel,
    int8_operands,
    int8_weight,
    unshared_bias,
)

LINEAR = ("aten.linear.default",)
RELU = ("aten.relu.default",)
CLAMPS = ("aten.hardtanh.default", "aten.relu6.default")
RULES = (int8_operands, int8_weight, unshared_bias, dynamic_per_channel)

ANNOTATORS = (
    Annotator(
        "linear_relu",
        LINEAR,
        patterns.fused(patterns.weighted(), RELU),
        rules=RULES,
        summary="linear followed by relu",
    ),
    Annotator(
        "linear_clamp",
        LINEAR,
        patterns.fused(patterns.weighted(), CLAMPS),
        rules=RULES,
        summary="linear followed by hardtanh or relu6",
    ),
    Annotator("linear", LINEAR, patterns.weighted(), ALL_MODES, RULES, summary="linear"),
)
