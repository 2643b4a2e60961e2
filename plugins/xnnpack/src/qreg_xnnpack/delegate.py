"""Rules that reject a match that the XNNPACK delegate does not run in int8, with a reason.

The rules follow the delegate's partitioner (executorch 1.4.1,
``backends/xnnpack/partition/config``) and were confirmed by running programs. A rule accepts a
match and a config, and returns a reason, or None if the delegate supports the match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.annotators.profitability import Islands
from qreg.annotators.rules import constant_weight, is_dynamic, is_static, listed, static_shape
from qreg.configs.factory import INT4
from qreg.configs.groups import group_size_of
from qreg.graph.clamping import bounds_of
from qreg.graph.nodes import argument, called, operator_name, shape_of
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
    TABULATED,
    TRANSPOSED,
    UNSQUEEZE,
)

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match


# Operators that compute on int8 values, and operators that pool, clip or move them.
COMPUTING = frozenset({*CONV, *TRANSPOSED, *LINEAR, *ADDMM, *ADD, *SUB, *MUL})
HANDING_ON = frozenset({*CAT, *CLAMPS, *MAX_POOL2D, *PADS, *PERMUTES, *RELU, *RESHAPES, *SLICE})
HANDING_ON |= {
    *TABULATED,
    "aten.silu.default",
    *UNSQUEEZE,
    "aten.mean.dim",
    "aten.adaptive_avg_pool2d.default",
}
ISLANDS = Islands(COMPUTING, HANDING_ON)
# What a sum reaches by way of other sums: operators in int8, and norms, which are in float.
SUMS = HANDING_ON | {*ADD}
BEHIND_SUMS = Islands(COMPUTING - {*ADD}, SUMS)
NORMS = Islands(
    frozenset(f"aten.{name}.default" for name in ("layer_norm", "group_norm", "rms_norm")), SUMS
)


def sizes_known_before_the_data(match: Match, config: QuantizationConfig) -> str | None:
    """Reject tensors with a size that depends on the data: the partitioner leaves them out."""
    for node in (*match.inputs, match.output):
        if _depends_on_the_data(node.meta.get("val", ())):
            return f"{node.name} has a data-dependent size, which the delegate does not support"
    return None


def _depends_on_the_data(value: Any) -> bool:
    sizes = getattr(value, "shape", (value,))
    if all(type(size) is int for size in sizes):  # as of most tensors, which is quick to see
        return False
    from torch.fx.experimental.symbolic_shapes import has_free_unbacked_symbols

    return has_free_unbacked_symbols(value)


def int8_weight(match: Match, config: QuantizationConfig) -> str | None:
    """Require a quantized weight that is a constant of the model, and packable if it has 4 bits."""
    return constant_weight(match, config) or _not_packed(match, config)


def _not_packed(match: Match, config: QuantizationConfig) -> str | None:
    """Return why a 4-bit weight cannot be packed two to a byte; None if it can or has more bits.

    executorch 1.4.1 packs the rows of a linear. A convolution does not lower, rows of odd length
    result in wrong values, and a transposed weight (an addmm that is trained, or has factors)
    crashes the process.
    """
    import torch

    spec = config.weight
    packed = (spec.quant_min, spec.quant_max) == (INT4.low, INT4.high)
    if not packed or spec.qscheme != torch.per_channel_symmetric:
        return None
    consumer = next(node for node in match.nodes if match.weight in node.all_input_nodes)
    if operator_name(consumer.target) != "aten.linear.default":
        name = str(consumer.target).split(".")[1]
        return f"{name} with weights of 4 bits: the delegate supports them in linear only"
    columns, size = shape_of(match.weight)[-1], group_size_of(spec)
    if size is not None and columns % size:
        return f"its {columns} columns are not a multiple of the group size {size}"
    odd = columns % 2 == 1
    return f"{columns} columns of 4 bits: the delegate requires an even number" if odd else None


def unshared_bias(match: Match, config: QuantizationConfig) -> str | None:
    """Require a bias with one user: the delegate scales an int32 bias for its first call.

    The transforms copy shared biases. A bias that is still shared was not transformed, as in QAT,
    where copies would be trained separately.
    """
    if match.bias is None or is_dynamic(config) or len(match.bias.users) == 1:
        return None
    return f"its bias {match.bias.target} serves another call too, with another scale"


def computed_with(match: Match, config: QuantizationConfig) -> str | None:
    """Require an int8 compute operator that reads the joined values, not only a part of one input.

    Otherwise the shared qparams of a ``cat`` would only cost accuracy: inputs with small ranges
    would lose most of their quantized values.
    """
    if ISLANDS.read_by_products(match.output):
        return None
    return "nothing that computes in int8 reads it: shared qparams would only cost accuracy"


def apart_from_norms(match: Match, config: QuantizationConfig) -> str | None:
    """Reject a sum that norms read and no int8 operator, as that of a transformer's residuals.

    A norm scales each row by itself. With one scale for all rows, small ones would lose most of
    their quantized values: a ViT whose class token is small has 4 dB to float in place of 19. In
    float, the sums of MiniLM take 4 % of its time, those of ViT-tiny none.
    """
    if not NORMS.read_by_products(match.output) or BEHIND_SUMS.read_by_products(match.output):
        return None
    return "a norm and no int8 operator reads it: one scale for all rows would only cost accuracy"


def ordered_bounds(match: Match, config: QuantizationConfig) -> str | None:
    """Require a lower bound below the upper one."""
    low, high = bounds_of(match.anchor, called(match.anchor)) or (0, 1)
    crossed = low >= high
    return f"clamp from {low} to {high}: the delegate requires rising bounds" if crossed else None


def planar(match: Match, config: QuantizationConfig) -> str | None:
    """Require one or two spatial dimensions."""
    dimensions = len(shape_of(match.weight)) - 2
    return (
        f"convolution in {dimensions}d: the delegate supports 1d and 2d" if dimensions > 2 else None
    )


def one_group(match: Match, config: QuantizationConfig) -> str | None:
    """Require one group in transposed convolutions."""
    groups = argument(match.anchor, 6) or 1
    return None if groups == 1 else f"conv_transpose with {groups} groups: the delegate supports 1"


def zero_padding(match: Match, config: QuantizationConfig) -> str | None:
    """Require zero padding of the spatial dimensions, without negative amounts."""
    amounts: Sequence[Any] = argument(match.anchor, 1)
    mode, value = _padding_kind(match.anchor)
    if mode != "constant" or value:
        return f"padding of a convolution with {value or mode}: the delegate supports zeros"
    spatial = 2 * (len(shape_of(match.weight)) - 2)
    if any(not isinstance(n, int) or n < 0 for n in amounts) or any(amounts[spatial:]):
        return (
            f"padding of a convolution by {list(amounts)}: only spatial amounts >= 0 are supported"
        )
    return None


def _padding_kind(node: Node) -> tuple[str, float]:
    """Return mode and value of ``pad(x, pad, mode, value)``, ``constant_pad_nd(x, pad, value)``."""
    if "constant_pad_nd" in str(node.target):
        return "constant", argument(node, 2) or 0
    return argument(node, 2) or "constant", argument(node, 3) or 0


def dynamic_per_channel(match: Match, config: QuantizationConfig) -> str | None:
    """Require per-channel weights with dynamic activations."""
    import torch

    if is_dynamic(config) and config.weight.qscheme != torch.per_channel_symmetric:
        return (
            "dynamic activations with per-tensor weights: the delegate requires per-channel "
            "weights, as in the config int8_dynamic_per_channel"
        )
    return None


def dynamic_conv(match: Match, config: QuantizationConfig) -> str | None:
    """Require dynamic convolutions that are 2d and not depthwise."""
    if not is_dynamic(config):
        return None
    shape = list(shape_of(match.weight))
    if "transpose" in str(match.anchor.target):  # (in, out) instead of (out, in)
        shape[0], shape[1] = shape[1], shape[0]
    if len(shape) != 4:
        return f"dynamic convolution in {len(shape) - 2}d: the delegate supports 2d"
    # One input channel in one group is not a depthwise convolution, but the delegate's partitioner
    # and serializer (executorch 1.4.1) both treat it as one.
    if operator_name(match.inputs[0].target) in PADS:
        return "dynamic convolution after a pad, which the delegate would fuse at a fixed size"
    if shape[1] == 1:
        return "dynamic convolution with one input channel per group (must be static)"
    return None


def kept_mean(match: Match, config: QuantizationConfig) -> str | None:
    """Require a mean with keepdim."""
    return None if argument(match.anchor, 2) else "mean without keepdim: the delegate keeps them"


def pool_window(match: Match, config: QuantizationConfig) -> str | None:
    """Require a stride no larger than the window, and a static size in ceil mode."""
    window = _pair(argument(match.anchor, 1))
    stride = _pair(argument(match.anchor, 2) or window)
    if any(step > size for step, size in zip(stride, window, strict=True)):
        return f"max pooling with stride {stride} beyond its window {window}"
    if argument(match.anchor, 5) and not is_static(match.output):
        return "max pooling in ceil mode with dynamic shapes"
    rank = len(shape_of(match.inputs[0]))
    return None if rank == 4 else f"max pooling of a {rank}d tensor: the delegate supports 4d"


def trailing_dimension(match: Match, config: QuantizationConfig) -> str | None:
    """Require an unsqueeze at the last dimension."""
    rank, dim = len(shape_of(match.inputs[0])), argument(match.anchor, 1)
    if dim in (-1, rank):
        return None
    return f"unsqueeze at dimension {dim} of a {rank}d tensor: the delegate supports the last"


def contiguous_slice(match: Match, config: QuantizationConfig) -> str | None:
    """Require a slice of step 1 with at least one element."""
    step = argument(match.anchor, 4) or 1
    if step != 1:
        return f"slice with step {step}: the delegate supports 1"
    empty = 0 in (*shape_of(match.inputs[0]), *shape_of(match.output))
    return "slice of or to an empty tensor" if empty else static_shape(match, config)


def _pair(sizes: Any) -> list[Any]:
    """Return a window as two numbers; torch accepts one number for both dimensions."""
    given = listed(sizes)
    return given * 2 if len(given) == 1 else given
