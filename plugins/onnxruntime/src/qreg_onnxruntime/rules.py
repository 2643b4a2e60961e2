"""Rules that reject a match that ONNX Runtime's CPU provider does not run in integers.

Each rule returns a reason. The rules were found by running programs and reading the graphs that the
runtime optimized (onnxruntime 1.32).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.annotators.rules import is_static
from qreg.graph.nodes import argument, operator_name, shape_of
from qreg.graph.operators import CLAMPS

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


def plain_maximum(match: Match, config: QuantizationConfig) -> str | None:
    """Require max pooling of a tensor with a batch dimension."""
    planes = 2 if "2d" in str(match.anchor.target) else 1
    rank = len(shape_of(match.inputs[0]))
    fits = rank == planes + 2
    return None if fits else f"max pooling of a {rank}d tensor: give it a batch dimension"


def clamped_around_zero(match: Match, config: QuantizationConfig) -> str | None:
    """Require bounds with 0 between them if the match ends in a clamp.

    Quantized values always include 0. The runtime removes a clamp that they imply, and runs the
    operator ahead of any other clamp in float.
    """
    clamp = match.output
    if operator_name(clamp.target) not in CLAMPS:
        return None
    low, high = _bound(clamp, 1, "min"), _bound(clamp, 2, "max")
    if not all(isinstance(each, (int, float, type(None))) for each in (low, high)):
        return "its bounds are computed while the model runs (expected numbers)"
    excluded = (low is not None and low > 0) or (high is not None and high < 0)
    return f"clamp from {low} to {high}: its bounds must include 0" if excluded else None


def _bound(clamp: Node, position: int, name: str) -> Any:
    given = argument(clamp, position)
    return clamp.kwargs.get(name, clamp.kwargs.get(f"{name}_val")) if given is None else given


def doubled(match: Match, config: QuantizationConfig) -> str | None:
    """Require an image that is enlarged by integer factors."""
    before, after = shape_of(match.inputs[0])[2:], shape_of(match.output)[2:]
    if not (is_static(match.inputs[0]) and is_static(match.output)):
        return "its size is dynamic: whether the factors are integers is unknown"
    whole = all(big % small == 0 for big, small in zip(after, before, strict=True))
    return None if whole else f"enlarged from {before} to {after}: the factors are not integers"
