"""Rules that reject a match that ONNX Runtime's CPU provider does not run in integers.

Each rule returns a reason. The rules were found by running programs and reading the graphs that the
runtime optimized (onnxruntime 1.32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.annotators.rules import is_static
from qreg.graph.nodes import shape_of

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


def doubled(match: Match, config: QuantizationConfig) -> str | None:
    """Require an image that is enlarged by integer factors."""
    before, after = shape_of(match.inputs[0])[2:], shape_of(match.output)[2:]
    if not (is_static(match.inputs[0]) and is_static(match.output)):
        return "its size is dynamic: whether the factors are integers is unknown"
    whole = all(big % small == 0 for big, small in zip(after, before, strict=True))
    return None if whole else f"enlarged from {before} to {after}: the factors are not integers"
