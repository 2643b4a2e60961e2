"""Transposed convolutions, whose integer kernel supports no zero point.

Affine activations that are never negative have none in OpenVINO, where their lowest value is 0.
Others are quantized symmetrically, on the edge to the convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qreg import Annotation, Annotator, Match, Refusal, Rule, patterns
from qreg.annotators.builders import chain
from qreg.annotators.profitability import Islands
from qreg.annotators.rules import (
    batched,
    constant_weight,
    listed,
    nonempty,
    quantized_operands,
)
from qreg.graph.nodes import argument, shape_of
from qreg.graph.operators import TRANSPOSED
from qreg_openvino.zero_points import never_negative, symmetric, with_zero_point

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

STRIDE, PADDING, OUTPUT_PADDING, GROUPS, DILATION = 3, 4, 5, 6, 7


def transposed(islands: Islands, fused: Sequence[str], *fused_rules: Rule) -> Iterator[Annotator]:
    """Yield annotators for transposed convolutions, alone and with a fused activation."""

    def annotated(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        (entering,) = match.inputs
        if not never_negative(entering):
            if refused := with_zero_point(match):
                return refused
            config = symmetric(config)
        return islands.product_along_axis_1(match, config)

    rules = (quantized_operands, constant_weight, batched, supported, nonempty)
    summary = "conv_transpose1d, conv_transpose2d or conv_transpose3d"
    for name, followers in (("conv_transpose_act", (fused,)), ("conv_transpose", ())):
        yield chain(
            name,
            TRANSPOSED,
            patterns.weighted(),
            *followers,
            rules=(*rules, *fused_rules) if followers else rules,
            annotate=annotated,
            summary=summary,
        )


def supported(match: Match, config: QuantizationConfig) -> str | None:
    """Require what the integer kernel (openvino 2025.4, 2026.4) computes, and computes right."""
    node, sizes = match.anchor, shape_of(match.weight)[2:]
    if argument(node, GROUPS) not in (None, 1):
        return "a transposed convolution in groups is computed in float"
    if set(_each(node, DILATION, 1, sizes)) != {1}:
        return "the integer kernel of a transposed convolution with dilation is wrong"
    strides, padding = _each(node, STRIDE, 1, sizes), _each(node, PADDING, 0, sizes)
    added = _each(node, OUTPUT_PADDING, 0, sizes)
    gaps = [stride > size for stride, size in zip(strides, sizes, strict=True)]
    beyond = [more > less for more, less in zip(added, padding, strict=True)]
    if any(gaps) or any(beyond):
        return "the integer kernel adds no bias where the weight does not reach"
    return None


def _each(node: Node, place: int, default: int, sizes: Sequence[int]) -> list[Any]:
    given = listed(argument(node, place) or default)
    return given * len(sizes) if len(given) == 1 else given
