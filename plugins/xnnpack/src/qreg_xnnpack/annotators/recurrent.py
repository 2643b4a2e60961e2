"""A GRU with quantized input, state and outputs only.

The delegate has no GRU, so this annotator is in ``OP_TO_ANNOTATOR``, for callers who select it by
name, and is not an annotator of the backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import Annotation, Annotator, Match, patterns

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def with_outputs(node: Node) -> Match | None:
    """Match a GRU with its input and state, and the nodes that select its two outputs."""
    found = patterns.operands(0, 1)(node)
    return Match((node, *node.users), found.inputs) if found else None


def input_and_outputs(match: Match, config: QuantizationConfig) -> Sequence[Annotation]:
    """Quantize the inputs of the GRU and its selected outputs."""
    entering = dict.fromkeys(match.inputs, config.input_activation)
    picked = [Annotation(node, output=config.output_activation) for node in match.nodes[1:]]
    return [Annotation(match.anchor, entering), *picked]


GRU_IO_ONLY = Annotator(
    "gru_io_only",
    ("aten.gru.input",),
    with_outputs,
    annotate=input_and_outputs,
    summary="the input, state and outputs of a GRU",
)
