"""Activations without a zero point, for integer kernels that support none.

Affine activations that are never negative have none in OpenVINO, where their lowest value is 0.
Others are quantized symmetrically, on the edge to the operator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import Annotation, Match, Refusal
from qreg.annotators.annotate import output_spec, standard
from qreg.graph.clamping import bounds_of
from qreg.graph.nodes import called
from qreg.graph.operators import MAX_POOLS, MOVES

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

FROM_ZERO = {f"aten.{name}.default" for name in ("sigmoid", "hardsigmoid", "abs")}
PASSING = frozenset({*MAX_POOLS, *MOVES})


def never_negative(node: Node) -> bool:
    """Whether a value is at least 0 by what computes it."""
    while called(node) in PASSING:
        node = node.all_input_nodes[0]
    bounds = bounds_of(node, called(node))
    return called(node) in FROM_ZERO or (bounds is not None and bounds[0] >= 0)


def with_zero_point(match: Match) -> Refusal | None:
    """Return a refusal if an input is already quantized, with a zero point."""
    if all(output_spec(node) is None for node in match.inputs):
        return None
    return Refusal("its input has a zero point, which the kernel does not support")


def symmetric(config: QuantizationConfig) -> QuantizationConfig:
    """Return the config with input activations without a zero point."""
    import torch

    spec = dataclasses.replace(config.input_activation, qscheme=torch.per_tensor_symmetric)
    return dataclasses.replace(config, input_activation=spec)


def attention(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """Annotate queries and keys, both symmetric; the output, a product of floats, stays float."""
    config = dataclasses.replace(symmetric(config), output_activation=None)
    return with_zero_point(match) or standard(match, config)
