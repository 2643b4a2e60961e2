"""Rules that every int8 backend has for a match.

A rule accepts a match and a config, and returns the reason to reject the match, or None to accept
it. Rules of a single backend are in its plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qreg.annotators.masks import SOFTMAXES, Masks, reach
from qreg.graph.clamping import bounds_of
from qreg.graph.nodes import argument, called, is_constant, shape_of, tensor_at
from qreg.graph.operators import ADD, CAT, CLAMPS, DIV, DROPOUTS, EXPAND, IDENTITIES, MOVES, MUL
from qreg.graph.walks import reachable

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg.plugins.types.annotator import Match


# A larger number is the "minus infinity" of a mask rather than a value: no scale represents such a
# number and other values. The bound is HISTC_UPPER_BOUND of executorch's quantizers, a limit of
# torch.histc; torch 2.13's histc supports any finite float32 range.
LARGEST_SCALAR = 3.4028235e15
UNQUANTIZED_ACTIVATIONS = (
    "the config does not quantize activations: the operator would compute in float"
)
NO_SCALE = "no scale represents it and smaller values"
# What leaves small values small next to the largest.
SCALING = frozenset(
    {
        *(*MOVES, *EXPAND, *ADD, *MUL, *DIV, *CAT, *DROPOUTS, *IDENTITIES),
        *("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf"),
        *("aten.masked_fill.Scalar", "aten.masked_fill.Tensor", "aten.nan_to_num.default"),
        *("aten.stack.default", "aten.clamp.default"),
    }
)
NO_RANGE = "what it hides may be lower than in the calibration data"


def quantized_operands(match: Match, config: QuantizationConfig) -> str | None:
    """Require quantized input activations and, unless dynamic, quantized output activations."""
    entering, leaving = config.input_activation, config.output_activation
    if entering is None:
        return UNQUANTIZED_ACTIVATIONS
    if leaving is None and not entering.is_dynamic:
        return "the config does not quantize outputs: the operator would compute in float"
    return None


def constant_weight(match: Match, config: QuantizationConfig) -> str | None:
    """Require a weight that is a constant of the model and is quantized."""
    if match.weight is None or not is_constant(match.weight):
        return "its weight is not a constant; only constant weights can be quantized"
    shape = shape_of(match.weight)
    if len(shape) < 2 or 0 in shape:
        return f"its weight has shape {tuple(shape)}: only matrices with elements are quantized"
    if match.bias is not None and not is_constant(match.bias):
        return "its bias is not a constant; only constant biases can be quantized"
    if config.weight is None:
        return "the config does not quantize weights: the operator would compute in float"
    return None


def unscaled(match: Match, config: QuantizationConfig) -> str | None:
    """Reject a factor on the second operand."""
    alpha = match.anchor.kwargs.get("alpha", 1)
    return None if alpha == 1 else f"alpha={alpha} is not supported (must be 1)"


def moderate_constants(match: Match, config: QuantizationConfig) -> str | None:
    """Reject masks, and constants so large that no scale fits both them and the other operand."""
    masks = Masks.of(match.anchor.graph)
    for node in match.inputs:
        number = node.op == "get_attr" and tensor_at(node).numel() == 1
        largest, reached = masks.limit(match.anchor), reach(node)
        if reached > (LARGEST_SCALAR if number else largest):
            return f"the constant {node.target} reaches {reached:g}: {NO_SCALE}"
        if node in masks.filled:
            return f"{node.name} contains the minus infinity of a mask: {NO_SCALE}"
        if node in masks.computed:
            return f"{node.name} is a mask, computed from inputs or state: {NO_RANGE}"
    return None


def with_dimensions(match: Match, config: QuantizationConfig) -> str | None:
    """Reject zero-dimensional tensors that are not constants."""
    for node in match.inputs:
        if node.op != "get_attr" and not shape_of(node):
            return f"{node.name} has no dimensions: the backend has no layout for it"
    return None


def several_inputs(match: Match, config: QuantizationConfig) -> str | None:
    """Require two or more tensors, all different."""
    listed = match.anchor.args[0]
    assert isinstance(listed, Sequence)
    if len(listed) < 2:
        return "cat of one tensor (the backend requires two or more)"
    return "cat of one tensor with itself" if len(match.inputs) < 2 else None


def static_shape(match: Match, config: QuantizationConfig) -> str | None:
    """Require an output shape that is known ahead of time."""
    return None if is_static(match.output) else "its shape is dynamic (the backend requires static)"


def batched(match: Match, config: QuantizationConfig) -> str | None:
    """Require an input with a batch dimension."""
    consumer = next(node for node in match.nodes if match.weight in node.all_input_nodes)
    if len(shape_of(consumer.all_input_nodes[0])) == len(shape_of(match.weight)):
        return None
    return "convolution of an image without a batch dimension: add one with unsqueeze(0)"


def nonempty(match: Match, config: QuantizationConfig) -> str | None:
    """Reject tensors without elements, which have no range."""
    empty = [node for node in (*match.inputs, match.output) if 0 in shape_of(node)]
    return f"{empty[0].name} has no elements" if empty else None


def unscaled_product(match: Match, config: QuantizationConfig) -> str | None:
    """Reject ``addmm`` with factors."""
    factors = {name: match.anchor.kwargs.get(name, 1) for name in ("alpha", "beta")}
    return None if set(factors.values()) == {1} else f"addmm with {factors}: both must be 1"


def matrices(match: Match, config: QuantizationConfig) -> str | None:
    """Require operands with two or more dimensions."""
    vectors = [node for node in match.anchor.all_input_nodes if len(shape_of(node)) < 2]
    return f"{vectors[0].name} is a vector: the kernel requires matrices" if vectors else None


def apart_from_softmax(match: Match, config: QuantizationConfig) -> str | None:
    """Reject products by attention weights, most of which are small, and a few nearly 1.

    In one scale, the small ones round to zero. Converting the weights takes as long as the product
    in integers saves.
    """
    if all(called(node) not in SOFTMAXES for node in reachable(match.inputs, _scaled)):
        return None
    return "a factor is a softmax: its small values round to zero, and int8 saves no time"


def _scaled(node: Node) -> list[Node]:
    return node.all_input_nodes if called(node) in SCALING else []


def plain_matrix(match: Match, config: QuantizationConfig) -> str | None:
    """Require a two-dimensional weight, so that each column can have a separate scale."""
    rank = len(shape_of(match.weight))
    return None if rank == 2 else f"its weight has {rank} dimensions: the kernel requires 2"


def output_with_dimensions(match: Match, config: QuantizationConfig) -> str | None:
    """Reject a zero-dimensional output."""
    return None if shape_of(match.output) else f"{match.output.name} has no dimensions"


def pooled_to_one(match: Match, config: QuantizationConfig) -> str | None:
    """Require adaptive pooling of 4d images to one value per channel, a global average."""
    rank, size = len(shape_of(match.inputs[0])), listed(argument(match.anchor, 1))
    if rank != 4:
        return f"adaptive pooling of a {rank}d tensor: the kernel requires 4d"
    return None if set(size) == {1} else f"adaptive pooling to {size}: the kernel requires [1, 1]"


def spatial_mean(match: Match, config: QuantizationConfig) -> str | None:
    """Require a mean over the last two dimensions of a 4d image."""
    rank, dims = len(shape_of(match.inputs[0])), argument(match.anchor, 1)
    wanted = rank == 4 and bool(dims) and sorted(dim % rank for dim in dims) == [2, 3]
    if not wanted or match.anchor.kwargs.get("dtype") is not None:
        return f"mean over {dims} of a {rank}d tensor: the kernel requires [2, 3] of 4d"
    return None


def batched_pool(match: Match, config: QuantizationConfig) -> str | None:
    """Require pooling of a tensor with a batch dimension."""
    planes = next(each for each in (1, 2, 3) if f"{each}d" in str(match.anchor.target))
    rank = len(shape_of(match.inputs[0]))
    return None if rank == planes + 2 else f"pooling of a {rank}d tensor: give it a batch dimension"


def clamped_around_zero(match: Match, config: QuantizationConfig) -> str | None:
    """Require bounds around 0, which every quantized range includes, if a match ends in a clamp."""
    name = called(match.output)
    bounds = bounds_of(match.output, name)
    if name not in CLAMPS:
        return None
    if bounds is None:
        return "its bounds are computed while the model runs (expected numbers)"
    low, high = bounds
    return None if low <= 0 <= high else f"clamp from {low} to {high}: its bounds must include 0"


def listed(sizes: Any) -> list[Any]:
    """Return a size of torch, one number for all dimensions or one for each, as a list."""
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]


def is_dynamic(config: QuantizationConfig) -> bool:
    return config.input_activation is not None and bool(config.input_activation.is_dynamic)


def is_static(node: Node) -> bool:
    return all(isinstance(size, int) for size in shape_of(node))
