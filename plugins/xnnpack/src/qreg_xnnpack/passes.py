"""Rewrites of a converted program ahead of its decomposition and lowering by executorch 1.4.1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from qreg.errors import LoweringError
from qreg.graph.clamping import clamp_as_hardtanh
from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, operator_name
from qreg.graph.operators import IDENTITIES, PADS
from qreg.graph.rewrites import changes_nothing
from qreg.graph.walks import reachable
from qreg_xnnpack.attention import spell_out_attention
from qreg_xnnpack.bodies import bodies_of, spell_out_bodies
from qreg_xnnpack.decompositions import by_others
from qreg_xnnpack.maxima import without_positions
from qreg_xnnpack.scale_limits import check_scales
from qreg_xnnpack.shared_constants import separate_constants
from qreg_xnnpack.transforms import BIAS_POSITION, spell_out_stride

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"
DYNAMIC_DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.tensor"

IMAGE = 4  # dimensions: batch, channels, height, width
# executorch 1.4.1: ChannelsLastTaggedReshapePass.memory_sensitive_ops_nhwc
CHANNELS_LAST = (
    *("aten.conv", "pool2d", "aten.upsample", "aten.mean"),
    *("aten.amax", "aten.max.dim", "aten.prelu"),
)
CHANNELS_FIRST = ("aten.view.", "aten.reshape.", "aten.flatten.", "aten.linear.", "aten.matmul.")
SOFTMAX = frozenset({"aten.softmax.int", "aten._softmax.default"})
POOLS = {f"aten.{name}.default" for name in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")}
BROADCASTING = {f"aten.{name}.Tensor" for name in ("add", "sub", "mul", "div")}
BROADCASTING |= {"aten.maximum.default", "aten.minimum.default"}


def ready(program: ExportedProgram) -> ExportedProgram:
    """Apply all rewrites; the program is rewritten in place, except for 3d convolutions.

    Raises ``LoweringError`` for an operator that neither the delegate nor ExecuTorch has, and for
    scales that XNNPACK cannot compute with.
    """
    check_scales(program)
    _name_with_letters(program)
    _forget_provenance(program)
    spell_out_attention(program)
    _compute_written_weights(program)
    for graph in (program.graph, *(body.graph for body in bodies_of(program).values())):
        for node in list(graph.nodes):
            if node.op == "call_function":
                _rewrite(node)
    spell_out_bodies(program)
    separate_constants(program)
    program.graph_module.recompile()
    table = by_others()
    if any(node.target in table for node in program.graph.nodes):
        program = program.run_decompositions(table)
    return program


def _rewrite(node: Node) -> None:
    """Apply the rewrites of one operator.

    Raises ``LoweringError`` for an operator that neither the delegate nor ExecuTorch has.
    """
    from qreg.graph.composites import CLAMPS, as_clamp

    name = operator_name(node.target)
    if name == "aten.conv_transpose3d.input":
        raise LoweringError(f"{node.name}: ExecuTorch has no transposed convolution in 3d")
    if name == "aten.max_pool2d.default":
        spell_out_stride(node)
    if name == "aten.linear.default":
        _linear_by_a_vector(node)
        _bias_apart(node)
    if name in POOLS and node.meta["val"].dim() == IMAGE - 1:
        _with_a_batch(node)
    if name == "aten.addmm.default":
        _without_factors(node)
    if name in CLAMPS:
        as_clamp(node)
    if name in CLAMPS or name == "aten.clamp.default":
        clamp_as_hardtanh(node)
    if name == "aten.max.dim":
        without_positions(node)
    if name in IDENTITIES and changes_nothing(node):
        _read_past(node)
    if name in PADS:
        _crop_by_slices(node)
    if name == "aten.prelu.default" and node.meta["val"].dim() != IMAGE:
        _prelu_of_two_sides(node)
    if name in BROADCASTING:
        _align_ranks(node)
    if name in SOFTMAX:
        _softmax_in_rows(node)
    if name == DYNAMIC_DEQUANTIZE:
        _separate_readers(node)


def _name_with_letters(program: ExportedProgram) -> None:
    """Rename parameters so that each name begins with a letter, unlike those of ``nn.Sequential``.

    Otherwise, executorch 1.4.1 does not find the constants that it derives from a batch norm.
    """
    for spec in program.graph_signature.input_specs:
        if spec.target and spec.target[0].isdigit():
            renamed = f"module.{spec.target}"
            for values in (program.state_dict, program.constants):
                if spec.target in values:
                    values[renamed] = values.pop(spec.target)
            spec.target = renamed


def _forget_provenance(program: ExportedProgram) -> None:
    """Remove the history of each node, the nodes of earlier graphs that it came from.

    Each of the hundred passes over a program copies the history deeply, in a tenth of its time. The
    module path and the source line of a node are stored elsewhere.
    """
    for node in program.graph.nodes:
        node.meta.pop("from_node", None)


def _linear_by_a_vector(node: Node) -> None:
    """Rewrite a linear with a 1d weight as ``sum(x * weight)``: the delegate fails to run it."""
    import torch

    source, weight = cast("list[Node]", list(node.args[:2]))
    if weight.meta["val"].dim() != 1 or len(node.args) > 2:
        return
    product = call_before(node, torch.ops.aten.mul.Tensor, source, weight)
    node.target, node.args = torch.ops.aten.sum.dim_IntList, (product, [-1])


def _without_factors(node: Node) -> None:
    """Decompose an ``addmm`` with factors, or with a bias that is not a row.

    The delegate (executorch 1.4.1) ignores the factors, and treats any bias as one row.
    """
    import torch

    aten, value = torch.ops.aten, node.meta["val"]
    bias, *factors = cast("list[Node]", list(node.args))
    beta, alpha = (node.kwargs.get(name, 1) for name in ("beta", "alpha"))
    if (alpha, beta) == (1, 1) and bias.meta["val"].shape == value.shape[-1:]:
        return
    product = call_before(node, aten.mm.default, *factors)
    if alpha != 1:
        product = call_before(node, aten.mul.Tensor, product, alpha)
    if beta != 1:
        bias = call_before(node, aten.mul.Tensor, bias, beta)
    node.target, node.args, node.kwargs = aten.add.Tensor, (product, bias), {}


def _bias_apart(node: Node) -> None:
    """Add a bias that is not one number per column separately: the delegate treats it as a row."""
    import torch

    bias: Any = argument(node, 2)
    value = node.meta["val"]
    if bias is None or bias.meta["val"].shape == value.shape[-1:]:
        return
    product = call_before(node, node.target, *node.args[:2], value=value)
    node.target, node.args = torch.ops.aten.add.Tensor, (product, bias)


def _with_a_batch(node: Node) -> None:
    """Rewrite a pool of an image without a batch as a pool with a batch of 1.

    The delegate (executorch 1.4.1) lays out the input of a pool as an image of four dimensions.
    """
    import torch

    aten, value = torch.ops.aten, node.meta["val"]
    source: Any = node.args[0]
    image = call_before(node, aten.unsqueeze.default, source, 0)
    pooled = call_before(node, node.target, image, *node.args[1:], value=value.unsqueeze(0))
    pooled.kwargs = node.kwargs
    node.target, node.args, node.kwargs = aten.squeeze.dim, (pooled, 0), {}


def _compute_written_weights(program: ExportedProgram) -> None:
    """Rewrite a weight or bias that the model writes to as a computed value.

    The delegate (executorch 1.4.1) packs parameters at load time; a write then crashes the process.
    """
    import torch

    from qreg.graph.mutation import Mutations

    mutations = Mutations.of(program.graph)
    for node in list(program.graph.nodes) if mutations.writers else ():
        if operator_name(node.target) in BIAS_POSITION:
            for constant in filter(mutations.is_written, node.all_input_nodes):
                computed = call_before(node, torch.ops.aten.mul.Tensor, constant, 1.0)
                node.replace_input_with(constant, computed)


def _read_past(node: Node) -> None:
    """Replace a node with its input for all users except the program's outputs, kept by name."""
    source = cast("Node", node.args[0])
    node.replace_all_uses_with(source, delete_user_cb=lambda user: user.op != "output")
    if not node.users:
        node.graph.erase_node(node)


def _crop_by_slices(pad: Node) -> None:
    """Rewrite the negative amounts of a constant pad as slices: no kernel supports them."""
    import torch

    amounts: Any = argument(pad, 1)
    constant = "constant_pad_nd" in str(pad.target) or argument(pad, 2) in (None, "constant")
    known = all(isinstance(each, int) for each in amounts)
    if not (constant and known and any(each < 0 for each in amounts)):
        return
    source: Any = pad.args[0]
    for place, (first, last) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dimension = source.meta["val"].dim() - 1 - place
        ends = max(0, -first), last if last < 0 else sys.maxsize
        if ends != (0, sys.maxsize):
            source = call_before(pad, torch.ops.aten.slice.Tensor, source, dimension, *ends)
    pad.args = (source, [max(0, each) for each in amounts], *pad.args[2:])


def _prelu_of_two_sides(node: Node) -> None:
    """Rewrite a prelu as ``relu(x) - weight * relu(-x)``.

    The delegate (executorch 1.4.1) lays out the input as an image: other ranks do not lower.
    """
    import torch

    aten, rank = torch.ops.aten, node.meta["val"].dim()
    source, weight = cast("list[Any]", node.args)
    if rank > 2 and weight.meta["val"].numel() > 1:
        weight = call_before(node, aten.reshape.default, weight, [-1] + [1] * (rank - 2))
    negative = call_before(node, aten.neg.default, source)
    below = call_before(node, aten.relu.default, negative)
    scaled = call_before(node, aten.mul.Tensor, below, weight)
    above = call_before(node, aten.relu.default, source)
    node.target, node.args = aten.sub.Tensor, (above, scaled)


def _align_ranks(node: Node) -> None:
    """Add leading dimensions of size 1 to float operands of an image with fewer dimensions.

    Downstream of a dynamically quantized convolution, the delegate has the channels last and
    misreads the dimensions of a smaller operand, such as a scalar: the program fails at run time.
    """
    import torch

    for source in node.all_input_nodes if node.meta["val"].dim() == IMAGE else ():
        value = source.meta["val"]
        sizes = [1] * (IMAGE - value.dim()) + list(value.shape)
        static = all(isinstance(size, int) for size in sizes)
        if value.dim() < IMAGE and static and not _is(source, DEQUANTIZE):
            raised = call_before(node, torch.ops.aten.reshape.default, source, sizes)
            node.replace_input_with(source, raised)


def _softmax_in_rows(node: Node) -> None:
    """Reshape the input of a softmax over the width of an image to rows.

    Downstream of a convolution, the delegate (executorch 1.4.1) has the channels last and computes
    the softmax over the channels. The values are wrong, in float too.
    """
    import torch

    source = cast("Node", node.args[0])
    reshape = torch.ops.aten.reshape.default
    if not _is_over_width(node) or not _has_channels_last(source):
        return
    value = node.meta["val"]
    rows = call_before(node, reshape, source, [-1, value.shape[-1]])
    flat = value.reshape(-1, value.shape[-1])
    picked = call_before(node, node.target, rows, -1, *node.args[2:], value=flat)
    picked.kwargs = node.kwargs
    node.target, node.args, node.kwargs = reshape, (picked, list(value.shape)), {}


def _is_over_width(softmax: Node) -> bool:
    value, dim = softmax.meta["val"], softmax.args[1]
    static = all(isinstance(size, int) for size in value.shape)
    return value.dim() == IMAGE and dim in (-1, IMAGE - 1) and static


def _has_channels_last(node: Node) -> bool:
    """Whether the delegate may have laid out an image for an upstream operator."""
    return any(
        kind in str(each.target)
        for each in reachable([node], _of_same_layout)
        for kind in CHANNELS_LAST
    )


def _of_same_layout(node: Node) -> Iterator[Node]:
    changed = str(node.target).startswith(CHANNELS_FIRST)
    return filter(_is_image, () if changed else node.all_input_nodes)


def _is_image(node: Node) -> bool:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, (tuple, list)) else value
    return node.op == "call_function" and getattr(first, "ndim", 0) == IMAGE


def _separate_readers(dequantize: Node) -> None:
    """Quantize a dynamic input separately for each convolution that shares it with other readers.

    The delegate uses one layout and one quantization for all readers. If a 1x1 and a 3x3
    convolution share an input, one of them returns wrong values (7 dB). A convolution that shares
    an input with a linear does not lower.
    """
    convolutions = [reader for reader in dequantize.users if "aten.conv" in str(reader.target)]
    for reader in convolutions:
        if len(dequantize.users) > 1:
            reader.replace_input_with(dequantize, _quantized_again(dequantize, before=reader))


def _quantized_again(dequantize: Node, *, before: Node) -> Node:
    copies: dict[Node, Node] = {}
    with dequantize.graph.inserting_before(before):
        for node in _dynamic_chain(dequantize):
            copies[node] = dequantize.graph.node_copy(node, lambda each: copies.get(each, each))
    return copies[dequantize]


def _dynamic_chain(dequantize: Node) -> list[Node]:
    """Return the nodes that choose the qparams of an input, quantize it and dequantize it."""
    quantize: Any = dequantize.args[0]
    scale, zero_point = quantize.args[1:3]
    return [scale.args[0], scale, zero_point, quantize, dequantize]


def _is(node: Any, operator: str) -> bool:
    return str(getattr(node, "target", "")) == operator
