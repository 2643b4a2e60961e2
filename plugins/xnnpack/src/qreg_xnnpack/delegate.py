"""What the XNNPACK delegate runs in int8, as rules that refuse a match with a reason.

Read off the delegate's partitioner (executorch 1.4.1, ``backends/xnnpack/partition/config``) and
confirmed by running programs. A rule takes a match and a config and returns a reason, or None where
the delegate has no objection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.annotators.profitability import Islands
from qreg.annotators.rules import constant_weight, is_dynamic, is_static, static_shape
from qreg.graph.nodes import argument, operator_name, shape_of
from qreg.graph.operators import (
    ADD,
    ADDMM,
    CAT,
    CLAMPS,
    CONV,
    LINEAR,
    MAX_POOL2D,
    MUL,
    PADS,
    PERMUTES,
    RELU,
    RESHAPES,
    SLICE,
    SUB,
    TRANSPOSED,
    UNSQUEEZE,
)

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


# What computes on int8 values, and what hands them on: pools, clips or moves them.
COMPUTING = frozenset({*CONV, *TRANSPOSED, *LINEAR, *ADDMM, *ADD, *SUB, *MUL})
HANDING_ON = frozenset({*CAT, *CLAMPS, *MAX_POOL2D, *PADS, *PERMUTES, *RELU, *RESHAPES, *SLICE})
HANDING_ON |= {*UNSQUEEZE, "aten.mean.dim", "aten.adaptive_avg_pool2d.default"}
ISLANDS = Islands(COMPUTING, HANDING_ON)


def int8_weight(match: Match, config: QuantizationConfig) -> str | None:
    """The weight must be a constant of the model, quantized, and if it is of 4 bits packed."""
    return constant_weight(match, config) or _not_packed(match, config)


def _not_packed(match: Match, config: QuantizationConfig) -> str | None:
    """Why a weight of 4 bits cannot be packed two to a byte, or None if it can or has more bits.

    executorch 1.4.1 packs the rows of a linear. A convolution does not lower, rows of odd length
    give wrong numbers, and a weight that lies the other way round (addmm) ends the process.
    """
    import torch

    spec = config.weight
    packed = (spec.quant_min, spec.quant_max) == (-8, 7)
    if not packed or spec.qscheme != torch.per_channel_symmetric:
        return None
    consumer = next(node for node in match.nodes if match.weight in node.all_input_nodes)
    if operator_name(consumer.target) != "aten.linear.default":
        name = str(consumer.target).split(".")[1]
        return f"{name} with weights of 4 bits: the delegate takes them for linear"
    columns = shape_of(match.weight)[-1]
    odd = columns % 2 == 1
    return f"{columns} columns of 4 bits: the delegate takes an even number" if odd else None


def unshared_bias(match: Match, config: QuantizationConfig) -> str | None:
    """A bias of its own: the delegate keeps one int32 bias, scaled for the first call it meets.

    The transforms give every call its own; what is refused here was not transformed, as in QAT,
    where two biases would be trained apart.
    """
    if match.bias is None or is_dynamic(config) or len(match.bias.users) == 1:
        return None
    return f"its bias {match.bias.target} serves another call too, with another scale"


def computed_with(match: Match, config: QuantizationConfig) -> str | None:
    """Something that computes in int8 reads the joined values, and not only a part of one input.

    Elsewhere the parameters that all inputs of a ``cat`` share would cost the smaller ones most of
    their quantized values, and gain nothing.
    """
    if ISLANDS.read_by_products(match.output):
        return None
    return "nothing that computes in int8 reads it: shared parameters would only cost accuracy"


def ordered_bounds(match: Match, config: QuantizationConfig) -> str | None:
    """Numbers for bounds, the lower one below the upper one."""
    low, high = argument(match.anchor, 1), argument(match.anchor, 2)
    if not all(isinstance(each, (int, float, type(None))) for each in (low, high)):
        return "its bounds are computed while the model runs: the delegate takes constants"
    crossed = low is not None and high is not None and low >= high
    return f"clamp from {low} to {high}: the delegate takes rising bounds" if crossed else None


def around_zero(match: Match, config: QuantizationConfig) -> str | None:
    """Bounds with 0 between them: executorch 1.4.1 does not run another clamp of int8 values."""
    low, high = argument(match.anchor, 1), argument(match.anchor, 2)
    if (low is None or low <= 0) and (high is None or high >= 0):
        return None
    return f"clamp from {low} to {high}: in int8 the delegate supports bounds with 0 between them"


def planar(match: Match, config: QuantizationConfig) -> str | None:
    """One or two spatial dimensions."""
    dimensions = len(shape_of(match.weight)) - 2
    return f"convolution in {dimensions}d: the delegate takes 1d and 2d" if dimensions > 2 else None


def one_group(match: Match, config: QuantizationConfig) -> str | None:
    """Transposed convolutions have one group."""
    groups = argument(match.anchor, 6) or 1
    return None if groups == 1 else f"conv_transpose with {groups} groups: the delegate takes 1"


def zero_padding(match: Match, config: QuantizationConfig) -> str | None:
    """Zeros around the spatial dimensions, none taken away."""
    amounts: Sequence[Any] = argument(match.anchor, 1)
    mode, value = _padding_kind(match.anchor)
    if mode != "constant" or value:
        return f"padding before a convolution with {value or mode}: the delegate takes zeros"
    spatial = 2 * (len(shape_of(match.weight)) - 2)
    if any(not isinstance(n, int) or n < 0 for n in amounts) or any(amounts[spatial:]):
        return f"padding before a convolution by {list(amounts)}: the delegate pads around an image"
    return None


def _padding_kind(node: Node) -> tuple[str, float]:
    """Mode and value of ``pad(x, pad, mode, value)`` or ``constant_pad_nd(x, pad, value)``."""
    if "constant_pad_nd" in str(node.target):
        return "constant", argument(node, 2) or 0
    return argument(node, 2) or "constant", argument(node, 3) or 0


def dynamic_per_channel(match: Match, config: QuantizationConfig) -> str | None:
    """Dynamic activations go with per-channel weights only."""
    import torch

    if is_dynamic(config) and config.weight.qscheme != torch.per_channel_symmetric:
        return (
            "dynamic activations with per-tensor weights: the delegate takes per-channel weights, "
            "as in the config int8_dynamic_per_channel"
        )
    return None


def dynamic_conv(match: Match, config: QuantizationConfig) -> str | None:
    """Dynamic convolutions are 2d and not depthwise."""
    if not is_dynamic(config):
        return None
    shape = list(shape_of(match.weight))
    if "transpose" in str(match.anchor.target):  # (in, out) instead of (out, in)
        shape[0], shape[1] = shape[1], shape[0]
    if len(shape) != 4:
        return f"dynamic convolution in {len(shape) - 2}d: the delegate takes 2d"
    # One input channel in one group is no depthwise convolution, but the delegate's partitioner
    # and serializer (executorch 1.4.1) both take it for one.
    if operator_name(match.inputs[0].target) in PADS:
        return "dynamic convolution behind a pad, which the delegate would take in at a fixed size"
    if shape[1] == 1:
        return "dynamic convolution of one input channel a group: the delegate takes it static only"
    return None


def pooled_to_one(match: Match, config: QuantizationConfig) -> str | None:
    """Adaptive pooling down to one value a channel, of a 4d tensor: a global average."""
    rank, size = len(shape_of(match.inputs[0])), _pair(argument(match.anchor, 1))
    if rank != 4:
        return f"adaptive pooling of a {rank}d tensor: the delegate takes 4d"
    return None if size == [1, 1] else f"adaptive pooling to {size}: the delegate takes [1, 1]"


def spatial_mean(match: Match, config: QuantizationConfig) -> str | None:
    """The mean over the last two dimensions of a 4d tensor, which keeps them."""
    rank = len(shape_of(match.inputs[0]))
    dims = argument(match.anchor, 1)
    wanted = rank == 4 and dims is not None and sorted(dim % rank for dim in dims) == [2, 3]
    if not wanted or match.anchor.kwargs.get("dtype") is not None:
        return f"mean over {dims} of a {rank}d tensor: the delegate takes [2, 3] of 4d"
    return None if argument(match.anchor, 2) else "mean without keepdim: the delegate keeps them"


def pool_window(match: Match, config: QuantizationConfig) -> str | None:
    """A stride no larger than the window, and in ceil mode a size that is known."""
    window = _pair(argument(match.anchor, 1))
    stride = _pair(argument(match.anchor, 2) or window)
    if any(step > size for step, size in zip(stride, window, strict=True)):
        return f"max pooling with stride {stride} beyond its window {window}"
    if argument(match.anchor, 5) and not is_static(match.output):
        return "max pooling in ceil mode with dynamic shapes"
    rank = len(shape_of(match.inputs[0]))
    return None if rank == 4 else f"max pooling of a {rank}d tensor: the delegate takes 4d"


def trailing_dimension(match: Match, config: QuantizationConfig) -> str | None:
    """A new last dimension."""
    rank, dim = len(shape_of(match.inputs[0])), argument(match.anchor, 1)
    if dim in (-1, rank):
        return None
    return f"unsqueeze at dimension {dim} of a {rank}d tensor: the delegate takes the last"


def contiguous_slice(match: Match, config: QuantizationConfig) -> str | None:
    """A slice that takes every element between its ends, and at least one."""
    step = argument(match.anchor, 4) or 1
    if step != 1:
        return f"slice with step {step}: the delegate takes 1"
    empty = 0 in (*shape_of(match.inputs[0]), *shape_of(match.output))
    return "slice of or to an empty tensor" if empty else static_shape(match, config)


def _pair(sizes: Any) -> list[Any]:
    """A window or size as torch takes it: one number for both dimensions, or two."""
    listed = list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]
    return listed * 2 if len(listed) == 1 else listed
