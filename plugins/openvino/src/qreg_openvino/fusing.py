"""The elementwise functions that the CPU plugin fuses into the compute operator upstream."""

from __future__ import annotations

from qreg.graph.operators import CLAMPS, RELU

ACTIVATIONS = (
    *RELU,
    *CLAMPS,
    *("aten.gelu.default", "aten.silu.default", "aten.sigmoid.default", "aten.tanh.default"),
    *("aten.hardswish.default", "aten.hardsigmoid.default"),
    *("aten.leaky_relu.default", "aten.elu.default"),
)
