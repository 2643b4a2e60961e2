"""The operators that compute on quantized values or pass them on, in ONNX Runtime."""

from __future__ import annotations

from qreg.annotators.profitability import Islands
from qreg.graph.operators import ADD, ADDMM, CAT, CLAMPS, CONV, LINEAR, MATMUL, MUL, RELU

PRODUCTS = frozenset({*CONV, "aten.conv1d.padding", "aten.conv2d.padding"})
PRODUCTS |= frozenset({*LINEAR, *ADDMM, *MATMUL})

MEANS = ("aten.mean.dim",)
POOLS = ("aten.adaptive_avg_pool2d.default",)
MAX_POOLS = ("aten.max_pool1d.default", "aten.max_pool2d.default")
CURVES = ("aten.sigmoid.default", "aten.leaky_relu.default")
MOVES = (
    *("aten.view.default", "aten.reshape.default", "aten.flatten.using_ints"),
    *("aten.permute.default", "aten.transpose.int", "aten.t.default"),
    *("aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default"),
    *("aten.slice.Tensor", "aten.select.int", "aten.expand.default"),
    *("aten.clone.default", "aten.contiguous.default"),
    *("aten.upsample_nearest2d.vec", "aten.pixel_shuffle.default"),
)
# Implied by a quantization downstream: no quantized value lies beyond the bounds.
BOUNDED = (*RELU, *CLAMPS)
PASSING = frozenset({*ADD, *MUL, *CAT, *BOUNDED, *MEANS, *POOLS, *MAX_POOLS})
PASSING |= frozenset({*CURVES, *MOVES})

ISLANDS = Islands(PRODUCTS, PASSING)
