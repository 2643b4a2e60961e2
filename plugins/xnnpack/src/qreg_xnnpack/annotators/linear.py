"""Linear layers, alone and with the relu that the delegate fuses."""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.model import ALL_MODES
from qreg_xnnpack.delegate import dynamic_per_channel, int8_operands, int8_weight

LINEAR = ("aten.linear.default",)
RELU = ("aten.relu.default",)
RULES = (int8_operands, int8_weight, dynamic_per_channel)

ANNOTATORS = (
    Annotator(
        "linear_relu",
        LINEAR,
        patterns.fused(patterns.weighted(), RELU),
        rules=RULES,
        summary="linear followed by relu",
    ),
    Annotator("linear", LINEAR, patterns.weighted(), ALL_MODES, RULES, summary="linear"),
)
