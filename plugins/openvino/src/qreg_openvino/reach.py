"""The operators that compute on quantized values or pass them on, in OpenVINO's CPU plugin."""

from __future__ import annotations

from qreg.annotators.profitability import Islands
from qreg.graph.operators import (
    ADDMM,
    CAT,
    CONV,
    LINEAR,
    MATMUL,
    PERMUTES,
    RESHAPES,
    SLICE,
    UNSQUEEZE,
)

CONVOLUTIONS = (*CONV, "aten.conv1d.padding", "aten.conv2d.padding")
PRODUCTS = frozenset({*CONVOLUTIONS, *LINEAR, *ADDMM, *MATMUL})

MEANS = ("aten.mean.dim",)
POOLS = ("aten.avg_pool2d.default",)
GLOBAL_POOLS = ("aten.adaptive_avg_pool2d.default",)
MAX_POOLS = ("aten.max_pool1d.default", "aten.max_pool2d.default")
VIEWS = (*RESHAPES, *UNSQUEEZE, "aten.squeeze.dim", "aten.squeeze.dims")
PERMUTATIONS = (*PERMUTES, "aten.t.default")
SLICES = (*SLICE,)
COPIES = ("aten.clone.default", "aten.contiguous.default")
UPSAMPLES = ("aten.upsample_nearest2d.vec",)
SHUFFLES = ("aten.pixel_shuffle.default",)
PASSING = frozenset({*CAT, *MEANS, *POOLS, *GLOBAL_POOLS, *MAX_POOLS, *VIEWS, *PERMUTATIONS})
PASSING |= frozenset({*SLICES, *COPIES, *UPSAMPLES, *SHUFFLES})

ISLANDS = Islands(PRODUCTS, PASSING, constant_factor=True)
