"""Functions of each element.

Sigmoid and leaky relu have integer kernels, a clamp is done by the quantization behind it. Softmax
has an integer kernel that is slower than the float one, so it stays float.
"""

from __future__ import annotations

from qreg.annotators.families import continuing
from qreg_onnxruntime.reach import BOUNDED, ISLANDS
from qreg_onnxruntime.rules import clamped_around_zero

ANNOTATORS = (
    continuing(ISLANDS, "sigmoid", ("aten.sigmoid.default",)),
    continuing(ISLANDS, "leaky_relu", ("aten.leaky_relu.default",)),
    continuing(ISLANDS, "relu", BOUNDED, clamped_around_zero),
)
