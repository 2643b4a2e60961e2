"""Addition and multiplication of a constant tensor, which are wrong next to float operators.

The fault is in executorch 1.4.1 and occurs with its own quantizer too. If one subgraph contains an
int8 operator, then a float operator, then an addition or multiplication of an int8 constant of
several numbers, the runtime returns wrong values and frees memory twice.
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
    "it adds or multiplies a constant tensor to the output of a float operator: in int8, the "
    "delegate returns wrong values"
)


def apart_from_float(annotate: Annotate) -> Annotate:
    """Wrap ``annotate`` to reject a constant tensor that meets the output of a float operator."""

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
    """Whether a node computes in float; nodes upstream of a match are annotated earlier."""
    return node.op == "call_function" and output_spec(node) is None
