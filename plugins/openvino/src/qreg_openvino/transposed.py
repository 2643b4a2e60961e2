"""Transposed convolutions, whose integer kernel supports no zero point.

Affine activations that are never negative have none in OpenVINO, where their lowest value is 0.
Others are quantized symmetrically, on the edge to the convolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qreg import Annotation, Annotator, Match, Refusal, Rule, patterns
from qreg.annotators.annotate import output_spec
from qreg.annotators.builders import chain
from qreg.annotators.profitability import Islands
from qreg.annotators.rules import (
    batched,
    constant_weight,
    listed,
    nonempty,
    quantized_operands,
)
from qreg.graph.clamping import bounds_of
from qreg.graph.nodes import argument, called, shape_of
from qreg.graph.operators import MAX_POOLS, MOVES, TRANSPOSED

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

FROM_ZERO = {f"aten.{name}.default" for name in ("sigmoid", "hardsigmoid", "abs")}
PASSING = frozenset({*MAX_POOLS, *MOVES})
STRIDE, PADDING, OUTPUT_PADDING, GROUPS, DILATION = 3, 4, 5, 6, 7


def transposed(islands: Islands, fused: Sequence[str], *fused_rules: Rule) -> Iterator[Annotator]:
    """Yield annotators for transposed convolutions, alone and with a fused activation."""

    def annotated(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        (entering,) = match.inputs
        if not _never_negative(entering):
            if output_spec(entering) is not None:
                return Refusal("its input has a zero point, which the kernel does not support")
            config = _symmetric(config)
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


def _never_negative(node: Node) -> bool:
    while called(node) in PASSING:
        node = node.all_input_nodes[0]
    bounds = bounds_of(node, called(node))
    return called(node) in FROM_ZERO or (bounds is not None and bounds[0] >= 0)


def _symmetric(config: QuantizationConfig) -> QuantizationConfig:
    """Return the config with input activations without a zero point."""
    import torch

    spec = dataclasses.replace(config.input_activation, qscheme=torch.per_tensor_symmetric)
    return dataclasses.replace(config, input_activation=spec)
