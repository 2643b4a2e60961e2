"""Rewrites of a program on which executorch's passes for Arm would fail or return wrong results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.equivalents import crop_by_slices, spell_out_stride
from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, called, calls
from qreg.graph.operators import PADS
from qreg.graph.provenance import CUSTOM
from qreg.graph.rewrites import copy_constant
from qreg_arm.compat import quantized_key

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

POOLS = frozenset({"aten.max_pool2d.default", "aten.avg_pool2d.default"})


def spell_out_strides(program: ExportedProgram) -> None:
    """Add the stride to each pooling that omits it."""
    for pool in calls(program.graph, POOLS):
        spell_out_stride(pool)


def spell_out_float(program: ExportedProgram) -> None:
    """Rewrite what executorch 1.4.1 lowers to TOSA in int8 only, or in float with a large error."""
    for node in list(program.graph.nodes):
        rewrite = FLOAT_REWRITES.get(called(node))
        if rewrite and not node.meta.get(CUSTOM, {}).get(quantized_key(), {}).get("quantized"):
            rewrite(node)


def silu_by_sigmoid(node: Node) -> None:
    """Rewrite ``silu(x)`` as ``x * sigmoid(x)``."""
    import torch

    aten, x = torch.ops.aten, node.args[0]
    node.args = (x, call_before(node, aten.sigmoid.default, x, inherit=True))
    node.target = aten.mul.Tensor


def hardswish_by_clamp(node: Node) -> None:
    """Rewrite ``hardswish(x)`` as ``x * clamp(x + 3, 0, 6) / 6``."""
    import torch

    aten, x = torch.ops.aten, node.args[0]
    moved = call_before(node, aten.add.Tensor, x, 3.0, inherit=True)
    factor = call_before(node, aten.hardtanh.default, moved, 0.0, 6.0, inherit=True)
    product = call_before(node, aten.mul.Tensor, x, factor, inherit=True)
    node.target, node.args = aten.mul.Tensor, (product, 1 / 6)


def elu_by_exp(node: Node) -> None:
    """Rewrite ``elu(x)`` as ``scale * (relu(x) + alpha * (exp(min(x, 0) * input_scale) - 1))``.

    executorch approximates ``expm1`` by a polynomial, with an error of 15 dB.
    """
    import torch

    aten, x = torch.ops.aten, node.args[0]
    given = (argument(node, position) for position in (1, 2, 3))
    alpha, scale, input_scale = (1.0 if each is None else each for each in given)

    def call(target: Any, *arguments: Any) -> Node:
        return call_before(node, target, *arguments, inherit=True)

    low = call(aten.mul.Tensor, call(aten.clamp.default, x, None, 0.0), input_scale)
    curve = call(aten.mul.Tensor, call(aten.sub.Tensor, call(aten.exp.default, low), 1.0), alpha)
    total = call(aten.add.Tensor, call(aten.relu.default, x), curve)
    node.target, node.args = aten.mul.Tensor, (total, scale)


FLOAT_REWRITES = {
    "aten.silu.default": silu_by_sigmoid,
    "aten.hardswish.default": hardswish_by_clamp,
    "aten.elu.default": elu_by_exp,
    **dict.fromkeys(PADS, crop_by_slices),
}


def own_scaled_weights(model: GraphModule) -> None:
    """Copy the weight and bias of each convolution that is multiplied downstream.

    executorch 1.4.1 folds the factor into the weight and bias in place: in the tensors of the
    caller's model, and for every call that shares them.
    """
    for node in calls(model.graph, ("aten.conv2d.default",)):
        multiplied = any(".mul" in str(user.target) for user in node.users)
        for position in (1, 2) if multiplied else ():
            constant = argument(node, position)
            if getattr(constant, "op", "") == "get_attr":
                copy_constant(model, node, position)
                if not constant.users:
                    model.graph.erase_node(constant)
