"""Convolutions; transposed ones have no integer kernel."""

from __future__ import annotations

from qreg.annotators.annotate import standard
from qreg.annotators.families import convolutions
from qreg.configs.depthwise import full_range
from qreg_onnxruntime.reach import BOUNDED
from qreg_onnxruntime.rules import clamped_around_zero

ANNOTATORS = tuple(
    convolutions(full_range(standard), BOUNDED, "relu", fused_rules=(clamped_around_zero,))
)
