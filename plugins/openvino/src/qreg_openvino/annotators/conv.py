"""Convolutions; transposed ones stay in float: their integer kernel supports no zero point."""

from __future__ import annotations

from qreg.annotators.families import convolutions
from qreg.configs.depthwise import full_range
from qreg_openvino.fusing import ACTIVATIONS
from qreg_openvino.reach import ISLANDS
from qreg_openvino.rules import bounded, several_channels

ANNOTATORS = tuple(
    convolutions(
        full_range(ISLANDS.product),
        ACTIVATIONS,
        "act",
        rules=(several_channels,),
        fused_rules=(bounded,),
    )
)
