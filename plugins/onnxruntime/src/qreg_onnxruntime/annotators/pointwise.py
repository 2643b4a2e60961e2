"""Elementwise functions.

Sigmoid and leaky relu have integer kernels. A clamp is implied by the quantization downstream of
it. The integer kernel of softmax is slower than the float kernel, so softmax stays in float.
"""

from __future__ import annotations

from qreg.annotators.builders import continuing
from qreg_onnxruntime.reach import BOUNDED, ISLANDS
from qreg_onnxruntime.rules import clamped_around_zero

ANNOTATORS = (
    continuing(ISLANDS, "sigmoid", ("aten.sigmoid.default",)),
    continuing(ISLANDS, "leaky_relu", ("aten.leaky_relu.default",)),
    continuing(ISLANDS, "relu", BOUNDED, clamped_around_zero),
)
