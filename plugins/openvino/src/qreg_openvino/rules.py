"""Rules that reject a match that OpenVINO's CPU plugin does not run in integers, with a reason.

The rules were found by running programs and reading the graphs that the plugin compiled (openvino
2025.4.1, a processor with AVX-512).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.annotators.rules import listed
from qreg.graph.clamping import BOUNDED, finite_bounds
from qreg.graph.nodes import argument, operator_name, shape_of

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match

EIGHT_BITS = 254  # quant_max - quant_min of weights of 8 bits


def bounded(match: Match, config: QuantizationConfig) -> str | None:
    """Require two finite bounds if the match ends in a clamp."""
    clamp = match.output
    if operator_name(clamp.target) not in BOUNDED or finite_bounds(clamp) is not None:
        return None
    return "its bounds are computed while the model runs, or the range between them is empty"


def rows(match: Match, config: QuantizationConfig) -> str | None:
    """Require an input of two dimensions or more: the result of a vector would be a matrix row."""
    (entering,) = match.inputs
    vector = len(shape_of(entering)) < 2
    return f"{entering.name} is a vector: the kernel requires a matrix" if vector else None


def several_rows(match: Match, config: QuantizationConfig) -> str | None:
    """Require a weight of two rows or more, for float activations."""
    if shape_of(match.weight)[0] > 1:
        return None
    return "its weight is one row, which OpenVINO unpacks when it loads the model"


def eight_bits(match: Match, config: QuantizationConfig) -> str | None:
    """Require a config for processors whose sums of 8-bit products do not saturate."""
    weight = config.weight
    if weight is None or weight.quant_max - weight.quant_min >= EIGHT_BITS:
        return None
    return "its config has weights of fewer than 8 bits, for processors on which 8 bits saturate"


def values_apart(match: Match, config: QuantizationConfig) -> str | None:
    """Reject attention whose values are its keys or queries: they would be quantized, too."""
    value = argument(match.anchor, 2)
    return "its values are its keys or queries" if value in match.inputs else None


def fused_dimensions(match: Match, config: QuantizationConfig) -> str | None:
    """Require a result of up to three dimensions, after which the kernel fuses an activation."""
    dimensions = len(shape_of(match.output))
    if dimensions <= 3:
        return None
    return f"a result of {dimensions} dimensions: OpenVINO fuses activations into up to 3"


def plain_maximum(match: Match, config: QuantizationConfig) -> str | None:
    """Require max pooling without ceil mode and without dilation."""
    if argument(match.anchor, 5):
        return "max pooling in ceil mode is computed in float"
    dilated = set(listed(argument(match.anchor, 4) or 1)) != {1}
    return "max pooling with dilation is computed in float" if dilated else None


def plain_average(match: Match, config: QuantizationConfig) -> str | None:
    """Require an average over the values alone, without padding.

    openvino 2025.4 counts padding as the quantized value 0 instead of the zero point, so the
    average of integers is wrong.
    """
    padded = any(listed(argument(match.anchor, 3) or 0))
    if padded and argument(match.anchor, 5) is not False:
        return "average pooling that counts its padding: OpenVINO counts it with another value"
    if argument(match.anchor, 4):
        return "average pooling in ceil mode: OpenVINO counts its last windows differently"
    divisor = argument(match.anchor, 6)
    return f"average pooling with divisor_override={divisor} is not supported" if divisor else None
