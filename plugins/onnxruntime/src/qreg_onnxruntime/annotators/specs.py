"""What the operators of this backend get beyond the annotations that all backends share.

A product whose value is read in float has no quantized output: it gives float from its integer sum,
which costs less and loses nothing. What is no product is quantized where a quantized value enters
it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import Annotation, Match, Refusal
from qreg.annotation import output_spec, standard, with_channel_axis
from qreg_onnxruntime.reach import read_by_products

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def product(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """Inputs, weight and, where that is read in integers, the output."""
    if not read_by_products(match.output):
        config = dataclasses.replace(config, output_activation=None)
    return standard(match, config)


def product_along_axis_1(
    match: Match, config: QuantizationConfig
) -> Sequence[Annotation] | Refusal:
    """As ``product``, for a weight with its output channels along axis 1."""
    return product(match, with_channel_axis(config, 1))


def continued(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """Inputs and output, where one of the inputs is quantized already."""
    if any(output_spec(node) is not None for node in match.inputs):
        return standard(match, config)
    return Refusal("nothing that enters it is quantized: it would only be converted")
