"""Convolutions, alone and with the relu that the delegate fuses."""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.model import ALL_MODES
from qreg_xnnpack.annotators.linear import RELU
from qreg_xnnpack.delegate import dynamic_conv, dynamic_per_channel, int8_operands, int8_weight

CONV = ("aten.conv1d.default", "aten.conv2d.default")
RULES = (int8_operands, int8_weight, dynamic_per_channel, dynamic_conv)

ANNOTATORS = (
    Annotator(
        "conv_relu",
        CONV,
        patterns.fused(patterns.weighted(), RELU),
        rules=RULES,
        summary="conv1d or conv2d followed by relu",
    ),
    Annotator("conv", CONV, patterns.weighted(), ALL_MODES, RULES, summary="conv1d or conv2d"),
)
