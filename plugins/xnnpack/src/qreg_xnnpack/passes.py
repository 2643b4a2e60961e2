"""Rewrites of a converted program ahead of its decomposition and lowering by executorch 1.4.1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, cast

from qreg.errors import LoweringError
from qreg.graph.attention import spell_out_attention
from qreg.graph.clamping import ONE_SIDED, as_clamp, clamp_as_hardtanh
from qreg.graph.decompositions import decomposed, into_planes, into_products
from qreg.graph.equivalents import (
    add_batch,
    add_bias,
    crop_by_slices,
    spell_out_stride,
    without_positions,
)
from qreg.graph.insertion import call_before
from qreg.graph.nodes import called, calls
from qreg.graph.operators import (
    ADDMM,
    DEQUANTIZE,
    DYNAMIC_DEQUANTIZE,
    IDENTITIES,
    LINEAR,
    MAX_POOL2D,
    PADS,
)
from qreg.graph.recurrence import spell_out_recurrence
from qreg.graph.rewrites import changes_nothing
from qreg.graph.walks import reachable
from qreg_xnnpack.bodies import bodies_of, spell_out_bodies
from qreg_xnnpack.embeddings import look_up_quantized
from qreg_xnnpack.float_activations import (
    elu_in_parts,
    hardsigmoid_in_parts,
    mish_in_parts,
    softplus_in_parts,
)
from qreg_xnnpack.scale_limits import check_scales
from qreg_xnnpack.shared_constants import separate_constants
from qreg_xnnpack.strides import with_plain_strides
from qreg_xnnpack.tables import silu_by_table
from qreg_xnnpack.transforms import BIAS_POSITION

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

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
    _name_apart(program)
    _forget_provenance(program)
    spell_out_attention(program)
    spell_out_recurrence(program)
    look_up_quantized(program)
    _compute_written_weights(program)
    for graph in (program.graph, *(body.graph for body in bodies_of(program).values())):
        for node in list(graph.nodes):
            name = called(node)
            for names, rewrite in REWRITES:
                if name in names:
                    rewrite(node)
    spell_out_bodies(program)
    separate_constants(program)
    with_plain_strides(program)
    program.graph_module.recompile()
    return decomposed(program, {**into_products(), **into_planes()})


def _name_apart(program: ExportedProgram) -> None:
    """Rename parameters so that each name begins with a letter, unlike those of ``nn.Sequential``.

    Otherwise, executorch 1.4.1 does not find the constants that it derives from a batch norm. It
    writes to the input of a model in place of a buffer with the same name, which is renamed too.
    """
    inputs = set(program.graph_signature.user_inputs)
    for spec in program.graph_signature.input_specs:
        if spec.target and (spec.target[0].isdigit() or spec.target in inputs):
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


def _reject(node: Node) -> None:
    raise LoweringError(f"{node.name}: ExecuTorch has no transposed convolution in 3d")


def _linear_by_a_vector(node: Node) -> None:
    """Rewrite a linear with a 1d weight as ``sum(x * weight)``: the delegate fails to run it."""
    import torch

    source, weight = cast("list[Node]", list(node.args[:2]))
    if weight.meta["val"].dim() != 1 or len(node.args) > 2:
        return
    product = call_before(node, torch.ops.aten.mul.Tensor, source, weight)
    node.target, node.args = torch.ops.aten.sum.dim_IntList, (product, [-1])


def _compute_written_weights(program: ExportedProgram) -> None:
    """Rewrite a weight or bias that the model writes to as a computed value.

    The delegate (executorch 1.4.1) packs parameters at load time; a write then crashes the process.
    """
    import torch

    from qreg.graph.mutation import Mutations

    mutations = Mutations.of(program.graph)
    for node in calls(program.graph, BIAS_POSITION):
        for constant in filter(mutations.is_written, node.all_input_nodes):
            computed = call_before(node, torch.ops.aten.mul.Tensor, constant, 1.0)
            node.replace_input_with(constant, computed)


def _read_past(node: Node) -> None:
    """Replace an identity with its input, except for the program's outputs, kept by name."""
    source = cast("Node", node.args[0])
    if not changes_nothing(node):
        return
    node.replace_all_uses_with(source, delete_user_cb=lambda user: user.op != "output")
    if not node.users:
        node.graph.erase_node(node)


def _prelu_of_two_sides(node: Node) -> None:
    """Rewrite a prelu as ``relu(x) - weight * relu(-x)``.

    The delegate (executorch 1.4.1) lays out the input as an image: other ranks do not lower.
    """
    import torch

    aten, rank = torch.ops.aten, node.meta["val"].dim()
    if rank == IMAGE:
        return
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
        if value.dim() < IMAGE and static and called(source) != DEQUANTIZE:
            raised = call_before(node, torch.ops.aten.reshape.default, source, sizes)
            node.replace_input_with(source, raised)


def _without_integers(node: Node) -> None:
    """Turn the integers of a float call into floats, which executorch need not cast at run time."""
    if node.meta["val"].dtype.is_floating_point:
        node.args = tuple(float(arg) if type(arg) is int else arg for arg in node.args)


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


def _as_hardtanh(node: Node) -> None:
    if called(node) in ONE_SIDED:
        as_clamp(node)
    clamp_as_hardtanh(node)


# In the order in which they apply to one call.
REWRITES: tuple[tuple[Collection[str], Callable[[Node], object]], ...] = (
    (("aten.conv_transpose3d.input",), _reject),
    (MAX_POOL2D, spell_out_stride),
    (LINEAR, _linear_by_a_vector),
    # The delegate ignores the factors of an addmm, and treats any bias as one row.
    ((*LINEAR, *ADDMM), add_bias),
    # The delegate lays out the input of a pool as an image of four dimensions.
    (POOLS, add_batch),
    ((*ONE_SIDED, "aten.clamp.default"), _as_hardtanh),
    # The delegate accepts max.dim where its positions are unused, and fails to lower it unless the
    # dimension is one of the last two of an image; for amax it checks that.
    (("aten.max.dim",), without_positions),
    (IDENTITIES, _read_past),
    (PADS, crop_by_slices),  # no kernel supports negative amounts
    (("aten.prelu.default",), _prelu_of_two_sides),
    (BROADCASTING, _without_integers),
    (BROADCASTING, _align_ranks),
    (SOFTMAX, _softmax_in_rows),
    (("aten.silu.default",), silu_by_table),
    (("aten.hardsigmoid.default",), hardsigmoid_in_parts),
    (("aten.elu.default",), elu_in_parts),
    (("aten.softplus.default",), softplus_in_parts),
    (("aten.mish.default",), mish_in_parts),
    ((DYNAMIC_DEQUANTIZE,), _separate_readers),
)
