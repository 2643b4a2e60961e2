"""Rewrites of the graph before it is annotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.patterns import operator_name

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

WITH_SCALARS = frozenset({"aten.add.Tensor", "aten.mul.Tensor"})
PREFIX = "_tensor_constant_"


def scalars_to_attributes(model: GraphModule) -> GraphModule:
    """Turns the scalars of ``x + 1`` and ``x * 2`` into tensors, so that they can be quantized.

    A scalar takes the dtype of the result where that is floating point; other calls stay as they
    are, since a float attribute would change what ``ids + 1`` gives.
    """
    changed = False
    for node in list(model.graph.nodes):
        if node.op == "call_function" and operator_name(node.target) in WITH_SCALARS:
            changed |= _lift_scalars(model, node)
    if changed:
        model.recompile()
    return model


def _lift_scalars(model: GraphModule, node: Node) -> bool:
    result = node.meta["val"]
    scalars = [arg for arg in node.args if isinstance(arg, (int, float))]
    if not scalars or not result.dtype.is_floating_point:
        return False
    with model.graph.inserting_before(node):
        node.args = tuple(
            _attribute(model, arg, result) if isinstance(arg, (int, float)) else arg
            for arg in node.args
        )
    return True


def _attribute(model: GraphModule, scalar: float, result: torch.Tensor) -> Node:
    import torch

    value = torch.tensor(float(scalar), dtype=result.dtype)
    name = _free_name(model)
    model.register_buffer(name, value)
    node = model.graph.create_node("get_attr", name)
    fake_mode: Any = getattr(result, "fake_mode")  # noqa: B009 - only fake tensors have it
    node.meta["val"] = fake_mode.from_tensor(value, static_shapes=True)
    return node


def _free_name(model: GraphModule) -> str:
    number = 0
    while hasattr(model, f"{PREFIX}{number}"):
        number += 1
    return f"{PREFIX}{number}"
