"""Sums and products with a constant tensor, which the delegate gets wrong next to float operators.

executorch 1.4.1, with its own quantizer too: where an int8 operator, then a float one, then a sum
or product with an int8 constant of several numbers are in one subgraph, the runtime gives wrong
values and frees memory twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import Refusal
from qreg.annotators.annotate import output_spec
from qreg.graph.nodes import is_constant, shape_of

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Annotate, Annotation, Match

REASON = (
    "it adds or multiplies a constant tensor to what a float operator computes: the delegate gives "
    "wrong values for that in int8"
)


def apart_from_float(annotate: Annotate) -> Annotate:
    """As ``annotate``, but for a constant tensor that meets the output of a float operator."""

    def guarded(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        activations = [each for each in match.inputs if not is_constant(each)]
        constants = [each for each in match.inputs if is_constant(each) and _is_several(each)]
        if constants and any(map(_is_float_operator, activations)):
            return Refusal(REASON)
        return annotate(match, config)

    return guarded


def _is_several(constant: Node) -> bool:
    return any(size != 1 for size in shape_of(constant))


def _is_float_operator(node: Node) -> bool:
    """Whether a node computes in float; what is upstream of a match is annotated by then."""
    return node.op == "call_function" and output_spec(node) is None
