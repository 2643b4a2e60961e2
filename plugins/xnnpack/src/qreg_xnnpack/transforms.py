"""Rewrites of a graph ahead of its annotation; none of them changes its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.clamping import clamp_as_hardtanh
from qreg.graph.equivalents import spell_out_stride
from qreg.graph.nodes import argument, operator_name
from qreg.graph.operators import DIV, MAX_POOL2D, PADS
from qreg.graph.rewrites import bypass, copy_constant, divide_by_factor, rewritten, simplify
from qreg.graph.rewrites import scalars_to_attributes as scalars_to_attributes
from qreg_xnnpack.spelling import SPELLED, follows_int8, spell_out

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg import Mode
    from qreg.graph.mutation import Mutations

BIAS_POSITION = {
    "aten.linear.default": 2,
    "aten.conv1d.default": 2,
    "aten.conv2d.default": 2,
    "aten.conv_transpose1d.default": 2,
    "aten.conv_transpose2d.input": 2,
    "aten.addmm.default": 0,
}
IN_1D = ("aten.conv1d.default", "aten.conv_transpose1d.default")


def transform(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Apply all rewrites in one walk over the graph."""
    from qreg.graph.mutation import Mutations

    trained, mutations = "qat" in modes, Mutations.of(model.graph)
    return rewritten(model, lambda node: _rewrite(model, node, trained, mutations))


def _rewrite(model: GraphModule, node: Node, trained: bool, mutations: Mutations) -> bool:
    # The delegate (executorch 1.4.1) runs a "move" to the type a tensor has, between int8
    # operators, as one of an image's channels, whatever the tensor's rank, and writes beyond the
    # tensor: the process dies. That is among what is simplified.
    simplified = simplify(model, node, trained)
    return _for_the_delegate(model, node, trained, mutations) or simplified


def _for_the_delegate(model: GraphModule, node: Node, trained: bool, mutations: Mutations) -> bool:
    name = operator_name(node.target)
    if name in BIAS_POSITION and not trained:
        return not any(map(mutations.is_state, node.all_input_nodes)) and _separate_constants(
            model, node, BIAS_POSITION[name]
        )
    if name in PADS:
        copied = mutations.is_written(node.all_input_nodes[0])
        return not copied and _pads_nothing(node) and bypass(node)
    if name == "aten.clamp.default":  # which the delegate does not fuse
        return clamp_as_hardtanh(node)
    if name in DIV:
        return follows_int8(node) and divide_by_factor(model, node, trained, mutations)
    if name in SPELLED:
        return spell_out(node, mutations)
    return name in MAX_POOL2D and spell_out_stride(node)


def _pads_nothing(node: Node) -> bool:
    """Whether a pad of width 0 feeds convolutions only.

    Elsewhere, the pad may be a copy that is mutated in place.
    """
    before_convolutions = all("aten.conv" in str(user.target) for user in node.users)
    return before_convolutions and not any(argument(node, 1))


def _separate_constants(model: GraphModule, node: Node, bias: int) -> bool:
    """Copy the weight or bias of a call that cannot share it with an earlier call.

    The delegate quantizes a bias to int32 by the input scale of its first call, so the second call
    of a module would be wrong. It lays out a weight for the first kind of operator that reads it,
    so convolutions and transposed convolutions cannot share a weight. Each call of a 1d convolution
    adds a dimension to its weight, so the weight supports one call.
    """
    weight = 2 if bias == 0 else 1
    one_call = operator_name(node.target) in IN_1D
    first = _earlier_reader(node, weight)
    apart = first is not None and (one_call or first.target != node.target)
    copied = [bias] if _earlier_reader(node, bias) else []
    copied += [weight] if apart else []
    for position in copied:
        copy_constant(model, node, position)
    return bool(copied)


def _earlier_reader(node: Node, position: int) -> Node | None:
    """Return the first call that reads a constant argument of a call, None if it is this call."""
    constant = argument(node, position)
    if getattr(constant, "op", "") != "get_attr":
        return None
    first = next(iter(constant.users))
    return None if first is node else first
