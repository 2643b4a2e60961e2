"""Rewrites of a program on which executorch's passes for Arm would fail or return wrong results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.equivalents import spell_out_stride
from qreg.graph.nodes import argument, calls
from qreg.graph.rewrites import copy_constant

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

POOLS = frozenset({"aten.max_pool2d.default", "aten.avg_pool2d.default"})


def spell_out_strides(program: ExportedProgram) -> None:
    """Add the stride to each pooling that omits it."""
    for pool in calls(program.graph, POOLS):
        spell_out_stride(pool)


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
