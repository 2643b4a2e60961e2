"""Keep 8-bit weights for depthwise convolutions where other weights are reduced to 7 bits.

Without VNNI, kernels saturate when they add pairs of products of two input channels. A depthwise
convolution reads one channel, and its kernels accumulate each product in 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from qreg.configs.factory import REDUCED_INT8, SYMMETRIC_INT8
from qreg.graph.nodes import shape_of
from qreg.plugins.types.annotator import Annotate, Annotation, Match, Refusal

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def full_range(annotate: Annotate) -> Annotate:
    """Annotate with 8-bit weights where a config has 7-bit ones and a convolution is depthwise."""

    def annotated(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        return annotate(match, _widened(config) if is_depthwise(match) else config)

    return annotated


def is_depthwise(match: Match) -> bool:
    """Whether each output channel of a convolution reads a separate single input channel."""
    if match.weight is None:
        return False
    outputs, inputs_per_group, *_ = shape_of(match.weight)
    return bool(inputs_per_group == 1 and outputs == shape_of(match.inputs[0])[1] > 1)


def _widened(config: QuantizationConfig) -> QuantizationConfig:
    weight = config.weight
    if (weight.quant_min, weight.quant_max) != (REDUCED_INT8.low, REDUCED_INT8.high):
        return config
    full = replace(weight, quant_min=SYMMETRIC_INT8.low, quant_max=SYMMETRIC_INT8.high)
    return replace(config, weight=full)
