"""The functions of each element that the CPU plugin computes inside of the product before them."""

from __future__ import annotations

from qreg.graph.operators import CLAMPS, RELU

ACTIVATIONS = (
    *RELU,
    *CLAMPS,
    *("aten.gelu.default", "aten.silu.default", "aten.sigmoid.default", "aten.tanh.default"),
    *("aten.hardswish.default", "aten.hardsigmoid.default"),
    *("aten.leaky_relu.default", "aten.elu.default"),
)
