"""What ONNX Runtime's CPU provider runs in integers, as rules that refuse a match with a reason.

Found by running programs and reading the graph that the runtime made of them (onnxruntime 1.32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.rules import is_static, shape_of

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


def plain_maximum(match: Match, config: QuantizationConfig) -> str | None:
    """A maximum of a tensor with a batch dimension."""
    planes = 2 if "2d" in str(match.anchor.target) else 1
    rank = len(shape_of(match.inputs[0]))
    fits = rank == planes + 2
    return None if fits else f"max pooling of a {rank}d tensor: give it a batch dimension"


def doubled(match: Match, config: QuantizationConfig) -> str | None:
    """An image that is enlarged by whole factors."""
    before, after = shape_of(match.inputs[0])[2:], shape_of(match.output)[2:]
    if not (is_static(match.inputs[0]) and is_static(match.output)):
        return "its size is dynamic: whether the factors are whole is not known"
    whole = all(big % small == 0 for big, small in zip(after, before, strict=True))
    return None if whole else f"enlarged from {before} to {after}: the factors are not whole"
