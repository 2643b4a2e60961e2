"""Rewrites of a program on which executorch's passes for Arm would fail or return wrong results."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from qreg.graph.nodes import argument, operator_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

POOLS = frozenset({"aten.max_pool2d.default", "aten.avg_pool2d.default"})


def spell_out_strides(program: ExportedProgram) -> None:
    """Add the stride to each pooling that omits it; the default is the window size.

    executorch 1.4.1 reads the stride by position.
    """
    for node in program.graph.nodes:
        pools = node.op == "call_function" and operator_name(node.target) in POOLS
        if pools and not argument(node, 2):
            node.args = (*node.args[:2], node.args[1], *node.args[3:])


def own_scaled_weights(model: GraphModule) -> None:
    """Copy the weight and bias of each convolution that is multiplied downstream.

    executorch 1.4.1 folds the factor into the weight and bias in place: in the tensors of the
    caller's model, and for every call that shares them.
    """
    for node in list(model.graph.nodes):
        if node.op == "call_function" and operator_name(node.target) == "aten.conv2d.default":
            multiplied = any(".mul" in str(user.target) for user in node.users)
            for constant in node.all_input_nodes[1:] if multiplied else ():
                if constant.op == "get_attr":
                    _own(model, node, constant)


def _own(model: GraphModule, reader: Node, constant: Node) -> None:
    import torch

    value: torch.Tensor = attrgetter(str(constant.target))(model)
    name = f"{reader.name}_{constant.name}_own"
    model.register_parameter(name, torch.nn.Parameter(value.detach().clone(), requires_grad=False))
    with model.graph.inserting_before(constant):
        copy = model.graph.get_attr(name)
    copy.meta = dict(constant.meta)
    reader.replace_input_with(constant, copy)
    if not constant.users:
        model.graph.erase_node(constant)
