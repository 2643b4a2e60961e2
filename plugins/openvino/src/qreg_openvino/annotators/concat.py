"""cat, with shared qparams: with separate ones, the plugin quantizes the inputs a second time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import Annotation, Match, Refusal, patterns
from qreg.annotators.annotate import output_spec, shared_in_and_out
from qreg.annotators.builders import chain
from qreg.annotators.rules import moderate_constants, nonempty, quantized_operands, several_inputs
from qreg.graph.operators import CAT
from qreg_openvino.reach import ISLANDS

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def joined(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """Share qparams between the inputs and the output of a cat if every input is quantized."""
    if all(output_spec(node) is not None for node in match.inputs):
        return shared_in_and_out(match, config)
    return Refusal("not all inputs are quantized: an int8 cat would only add conversions")


RULES = (quantized_operands, several_inputs, moderate_constants, nonempty, ISLANDS.feeds_products)

ANNOTATORS = (chain("cat", CAT, patterns.listed(), rules=RULES, annotate=joined),)
