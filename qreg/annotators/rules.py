"""What every backend that computes in int8 asks of a match, as rules that refuse it with a reason.

A rule takes a match and a config and returns a reason, or None where there is no objection. What
one backend asks for is in the rules of its plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qreg.graph.nodes import argument, is_constant, shape_of, tensor_at
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Graph, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg.plugins.types.annotator import Match


# What is larger is a mask's "minus infinity" rather than a value: no scale fits it and others.
# The bound is that of executorch's quantizers, HISTC_UPPER_BOUND, which they have for torch.histc;
# torch 2.13's holds any float32 range that is finite.
LARGEST_SCALAR = 3.4028235e15
# A tensor that reaches further is a mask of "minus infinity" rather than values: in the sum with
# such a mask, all other values would share one code.
LARGEST_ELEMENT = 1e4

# What fills in a mask's "minus infinity", and what passes it on.
MASKING = frozenset(
    {
        *("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf"),
        *("aten.where.Scalar", "aten.masked_fill.Scalar", "aten.masked_fill.Tensor"),
        *("aten.mul.Tensor", "aten.full.default", "aten.scalar_tensor.default"),
    }
)
CARRYING_MASKS = frozenset(
    {
        *("aten.expand.default", "aten.slice.Tensor", "aten.unsqueeze.default"),
        *("aten.view.default", "aten.reshape.default", "aten.add.Tensor", "aten.sub.Tensor"),
        *("aten.to.dtype", "aten._to_copy.default", "aten.clone.default", "aten.alias.default"),
    }
)


def quantized_operands(match: Match, config: QuantizationConfig) -> str | None:
    """Activations must be quantized where they enter and, unless dynamic, where they leave."""
    entering, leaving = config.input_activation, config.output_activation
    if entering is None:
        return "the config does not quantize activations: it would compute in float"
    if leaving is None and not entering.is_dynamic:
        return "the config does not quantize outputs: it would compute in float"
    return None


def constant_weight(match: Match, config: QuantizationConfig) -> str | None:
    """The weight must be a constant of the model, and quantized."""
    if match.weight is None or not is_constant(match.weight):
        return "its weight is computed while the model runs: only constants are quantized ahead"
    shape = shape_of(match.weight)
    if len(shape) < 2 or 0 in shape:
        return f"its weight has shape {tuple(shape)}: only matrices with elements are quantized"
    if match.bias is not None and not is_constant(match.bias):
        return "its bias is computed while the model runs: only constants are quantized ahead"
    if config.weight is None:
        return "the config does not quantize weights: it would compute in float"
    return None


def unscaled(match: Match, config: QuantizationConfig) -> str | None:
    """No factor on the second operand."""
    alpha = match.anchor.kwargs.get("alpha", 1)
    return None if alpha == 1 else f"alpha is {alpha}: the backend takes 1"


def moderate_constants(match: Match, config: QuantizationConfig) -> str | None:
    """Constants that an observer can hold, and that leave codes for the values they meet."""
    for node in match.inputs:
        reach, limit = _reach(node), LARGEST_ELEMENT
        if node.op == "get_attr" and tensor_at(node).numel() == 1:
            limit = LARGEST_SCALAR
        if not reach <= limit:
            return f"the constant {node.target} reaches {reach:g}: no scale fits it and others"
        if _is_masked(node):
            return f"{node.name} has a mask's minus infinity in it: no scale fits it and others"
    return None


def _is_masked(node: Node) -> bool:
    """Whether a number far beyond other values is filled in on the way to a node."""
    graph = node.graph
    size, masked = _masked.get(graph, (0, set()))
    if size != len(graph.nodes):
        masked = _find_masked(graph)
        _masked[graph] = len(graph.nodes), masked
    return node in masked


_masked: WeakKeyDictionary[Graph, tuple[int, set[Node]]] = WeakKeyDictionary()


def forget_masks(graph: Graph) -> None:
    """Look for masks again: what was found in a graph holds for one pass over it."""
    _masked.pop(graph, None)


def _find_masked(graph: Graph) -> set[Node]:
    """The nodes that such a number reaches, in one walk."""
    found: set[Node] = set()
    for node in graph.nodes:
        name = operator_name(node.target) if node.op == "call_function" else ""
        filled = name in MASKING and any(_reach(value) > LARGEST_ELEMENT for value in node.args)
        passed_on = name in MASKING or name in CARRYING_MASKS
        if filled or (passed_on and not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found


def _reach(value: Any) -> float:
    """The largest magnitude of a number or a constant in floating point, 0 for anything else."""
    if isinstance(value, (int, float)):
        return abs(value)
    if getattr(value, "op", "") != "get_attr":
        return 0.0
    tensor = tensor_at(value).detach()
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    low, high = tensor.aminmax()
    return max(-float(low), float(high))


def with_dimensions(match: Match, config: QuantizationConfig) -> str | None:
    """No tensor without dimensions that is computed while the model runs."""
    for node in match.inputs:
        if node.op != "get_attr" and not shape_of(node):
            return f"{node.name} has no dimensions: the backend cannot lay it out"
    return None


def several_inputs(match: Match, config: QuantizationConfig) -> str | None:
    """Two tensors or more, each of them once."""
    listed = match.anchor.args[0]
    assert isinstance(listed, Sequence)
    if len(listed) < 2:
        return "cat of one tensor: the backend takes two or more"
    return "cat of one tensor with itself" if len(match.inputs) < 2 else None


def static_shape(match: Match, config: QuantizationConfig) -> str | None:
    """A shape that is known before the program runs."""
    return (
        None if is_static(match.output) else "its shape is dynamic: the backend takes static ones"
    )


def batched(match: Match, config: QuantizationConfig) -> str | None:
    """An input with a batch dimension."""
    consumer = next(node for node in match.nodes if match.weight in node.all_input_nodes)
    if len(shape_of(consumer.all_input_nodes[0])) == len(shape_of(match.weight)):
        return None
    return "convolution of an image without a batch dimension: give it one"


def nonempty(match: Match, config: QuantizationConfig) -> str | None:
    """Tensors with elements, which have a range."""
    empty = [node for node in (*match.inputs, match.output) if 0 in shape_of(node)]
    return f"{empty[0].name} has no elements" if empty else None


def unscaled_product(match: Match, config: QuantizationConfig) -> str | None:
    """``addmm`` without factors."""
    factors = {name: match.anchor.kwargs.get(name, 1) for name in ("alpha", "beta")}
    return None if set(factors.values()) == {1} else f"addmm with {factors}: both must be 1"


def matrices(match: Match, config: QuantizationConfig) -> str | None:
    """Operands of two dimensions or more."""
    vectors = [node for node in match.anchor.all_input_nodes if len(shape_of(node)) < 2]
    return f"{vectors[0].name} is a vector: the kernel takes matrices" if vectors else None


def plain_matrix(match: Match, config: QuantizationConfig) -> str | None:
    """A weight of two dimensions, the columns of which have scales of their own."""
    rank = len(shape_of(match.weight))
    return None if rank == 2 else f"its weight has {rank} dimensions: the kernel takes 2"


def output_with_dimensions(match: Match, config: QuantizationConfig) -> str | None:
    """An output with dimensions."""
    return None if shape_of(match.output) else f"{match.output.name} has no dimensions"


def pooled_to_one(match: Match, config: QuantizationConfig) -> str | None:
    """Adaptive pooling of images down to one value a channel: a global average."""
    rank, size = len(shape_of(match.inputs[0])), listed(argument(match.anchor, 1))
    if rank != 4:
        return f"adaptive pooling of a {rank}d tensor: the kernel takes 4d"
    return None if set(size) == {1} else f"adaptive pooling to {size}: the kernel takes [1, 1]"


def spatial_mean(match: Match, config: QuantizationConfig) -> str | None:
    """The mean over the last two dimensions of an image."""
    rank, dims = len(shape_of(match.inputs[0])), argument(match.anchor, 1)
    wanted = rank == 4 and bool(dims) and sorted(dim % rank for dim in dims) == [2, 3]
    if not wanted or match.anchor.kwargs.get("dtype") is not None:
        return f"mean over {dims} of a {rank}d tensor: the kernel takes [2, 3] of 4d"
    return None


def listed(sizes: Any) -> list[Any]:
    """A size as torch takes it, one number for all dimensions or one for each, as a list."""
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]


def is_dynamic(config: QuantizationConfig) -> bool:
    return config.input_activation is not None and bool(config.input_activation.is_dynamic)


def is_static(node: Node) -> bool:
    return all(isinstance(size, int) for size in shape_of(node))
