"""What a value is read by, further down the graph: whether it pays to have it quantized.

Only products pay for a conversion: convolutions, linear layers and matmuls. Everything else is
worth quantizing where it stands between two of these, and not where it would be quantized for
itself alone. What is decided on, further down, is not known yet; what an operator is, is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.operators import ADD, ADDMM, CAT, CLAMPS, CONV, LINEAR, MATMUL, MUL, RELU
from qreg.patterns import operator_name

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match

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
# What a quantization behind it does, since no code lies beyond the bounds.
BOUNDED = (*RELU, *CLAMPS)
PASSING = frozenset({*ADD, *MUL, *CAT, *BOUNDED, *MEANS, *POOLS, *MAX_POOLS})
PASSING |= frozenset({*CURVES, *MOVES})


def read_by_products(node: Node) -> bool:
    """Whether a value enters a product, directly or through what ONNX Runtime runs on uint8."""
    waiting, seen = list(node.users), set(node.users)
    while waiting:
        user = waiting.pop()
        name = operator_name(user.target) if user.op == "call_function" else ""
        if name in PRODUCTS:
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
