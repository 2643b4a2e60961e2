"""Rules that reject a match that ONNX Runtime's CPU provider does not run in integers.

Each rule returns a reason. The rules were found by running programs and reading the graphs that the
runtime optimized (onnxruntime 1.32).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qreg.annotators.masks import SOFTMAXES
from qreg.annotators.rules import is_static
from qreg.graph.nodes import called, shape_of
from qreg.graph.operators import MOVES
from qreg.graph.walks import reachable
from qreg_onnxruntime.clamps import EXPAND

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


MOVED = frozenset({*MOVES, *EXPAND})


def apart_from_softmax(match: Match, config: QuantizationConfig) -> str | None:
    """Reject products by attention weights, most of which are small, and a few nearly 1.

    In one scale, the small ones round to zero. Converting the weights takes as long as the product
    in integers saves.
    """
    if all(called(node) not in SOFTMAXES for node in reachable(match.inputs, _moved)):
        return None
    return "a factor is a softmax: its small values round to zero, and int8 saves no time"


def _moved(node: Node) -> Iterator[Node]:
    if called(node) in MOVED:
        yield from node.all_input_nodes[:1]


def doubled(match: Match, config: QuantizationConfig) -> str | None:
    """Require an image that is enlarged by integer factors."""
    before, after = shape_of(match.inputs[0])[2:], shape_of(match.output)[2:]
    if not (is_static(match.inputs[0]) and is_static(match.output)):
        return "its size is dynamic: whether the factors are integers is unknown"
    whole = all(big % small == 0 for big, small in zip(after, before, strict=True))
    return None if whole else f"enlarged from {before} to {after}: the factors are not integers"
