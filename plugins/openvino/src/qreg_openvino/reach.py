"""What a value is read by, further down the graph: whether it pays to have it quantized.

Only products with weights pay for a conversion: convolutions, linear layers and matmuls. Everything
else is worth quantizing where it stands between two of these, and not where it would be quantized
for itself alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.operators import (
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
from qreg.patterns import is_constant, operator_name

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match

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


def read_by_products(node: Node) -> bool:
    """Whether a value enters a product, directly or through what OpenVINO runs on 8 bits."""
    waiting, seen = list(node.users), set(node.users)
    while waiting:
        user = waiting.pop()
        name = operator_name(user.target) if user.op == "call_function" else ""
        if name in PRODUCTS and any(map(is_constant, user.all_input_nodes)):
            return True
        if name in PASSING:
            fresh = set(user.users) - seen
            seen |= fresh
            waiting += fresh
    return False


def feeds_products(match: Match, config: QuantizationConfig) -> str | None:
    """What reads it, sooner or later, is a product."""
    if read_by_products(match.output):
        return None
    return "no convolution, linear or matmul reads it: quantized, it would only be converted"
