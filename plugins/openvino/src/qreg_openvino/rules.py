"""What OpenVINO's CPU plugin runs in integers, as rules that refuse a match with a reason.

Found by running programs and reading the graph that the plugin made of them (openvino 2025.4.1, a
processor with AVX-512).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.annotators.rules import listed
from qreg.graph.clamping import BOUNDED, finite_bounds
from qreg.graph.nodes import argument, operator_name, shape_of

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


def several_channels(match: Match, config: QuantizationConfig) -> str | None:
    """An input of more than one channel.

    For one, the plugin subtracts the zero point ahead and convolves in float.
    """
    channels = shape_of(match.inputs[0])[1]
    return "an image of one channel is convolved in float" if channels == 1 else None


def bounded(match: Match, config: QuantizationConfig) -> str | None:
    """Two numbers to clamp between, if the match ends in a clamp."""
    clamp = match.output
    if operator_name(clamp.target) not in BOUNDED or finite_bounds(clamp) is not None:
        return None
    return "its bounds are computed while the model runs, or leave nothing between them"


def rows(match: Match, config: QuantizationConfig) -> str | None:
    """An input of two dimensions or more: a vector would come out as a row of a matrix."""
    (entering,) = match.inputs
    vector = len(shape_of(entering)) < 2
    return f"{entering.name} is a vector: the kernel takes matrices" if vector else None


def batched_pool(match: Match, config: QuantizationConfig) -> str | None:
    """Pooling of a tensor with a batch dimension, of which the average is over whole windows."""
    planes = next(each for each in (1, 2, 3) if f"{each}d" in str(match.anchor.target))
    rank = len(shape_of(match.inputs[0]))
    return None if rank == planes + 2 else f"pooling of a {rank}d tensor: give it a batch dimension"


def plain_maximum(match: Match, config: QuantizationConfig) -> str | None:
    """Whole windows without gaps."""
    if argument(match.anchor, 5):
        return "max pooling in ceil mode is computed in float"
    dilated = set(listed(argument(match.anchor, 4) or 1)) != {1}
    return "max pooling with dilation is computed in float" if dilated else None


def plain_average(match: Match, config: QuantizationConfig) -> str | None:
    """An average of the values alone.

    openvino 2025.4 counts padding as the code 0 and not as the zero point: with it, the average of
    integers is wrong.
    """
    padded = any(listed(argument(match.anchor, 3) or 0))
    if padded and argument(match.anchor, 5) is not False:
        return "average pooling that counts its padding: OpenVINO averages other values then"
    if argument(match.anchor, 4):
        return "average pooling in ceil mode: its last windows are counted differently"
    divisor = argument(match.anchor, 6)
    return f"average pooling with divisor {divisor}" if divisor else None
