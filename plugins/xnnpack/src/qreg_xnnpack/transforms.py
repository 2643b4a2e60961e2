"""Rewrites of the graph before it is annotated. None of them changes what the graph computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qreg.patterns import argument, operator_name

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

    from qreg.model import Mode

WITH_SCALARS = frozenset({"aten.add.Tensor", "aten.mul.Tensor", "aten.sub.Tensor"})
WITH_BIAS = frozenset(
    {
        "aten.linear.default",
        "aten.conv1d.default",
        "aten.conv2d.default",
        "aten.conv_transpose1d.default",
        "aten.conv_transpose2d.input",
    }
)
SCALAR, BIAS = "_tensor_constant_", "_bias_"


def transform(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """All of them, in one walk over the graph."""
    trained = "qat" in modes
    return _rewritten(model, lambda node: _rewrite(model, node, trained))


def _rewritten(model: GraphModule, rewrite: Callable[[Node], bool]) -> GraphModule:
    changed = [rewrite(node) for node in list(model.graph.nodes) if node.op == "call_function"]
    if any(changed):
        model.recompile()
    return model


def _rewrite(model: GraphModule, node: Node, trained: bool) -> bool:
    name = operator_name(node.target)
    if name in WITH_SCALARS:
        return _lift_scalars(model, node)
    if name == "aten.rsub.Scalar":
        return _swap_operands(model, node)
    if name in WITH_BIAS and not trained:
        return _separate_bias(model, node)
    if name == "aten.clamp.default":
        return _clamp_as_hardtanh(node)
    return name == "aten.max_pool2d.default" and spell_out_stride(node)


def scalars_to_attributes(model: GraphModule) -> GraphModule:
    """Turns the scalars of ``x + 1``, ``x - 1`` and ``x * 2`` into tensors that can be quantized.

    A scalar takes the dtype of the result where that is floating point; other calls stay as they
    are, since a float attribute would change what ``ids + 1`` gives.
    """
    return _rewritten(
        model,
        lambda node: operator_name(node.target) in WITH_SCALARS and _lift_scalars(model, node),
    )


def _lift_scalars(model: GraphModule, node: Node) -> bool:
    result = node.meta["val"]
    if not any(map(_is_scalar, node.args)) or not result.dtype.is_floating_point:
        return False
    node.args = tuple(
        _scalar(model, node, arg, result) if _is_scalar(arg) else arg for arg in node.args
    )
    return True


def _is_scalar(value: object) -> bool:
    return isinstance(value, (int, float))


def _scalar(model: GraphModule, before: Node, scalar: Any, result: torch.Tensor) -> Node:
    import torch

    return _constant(model, before, SCALAR, torch.tensor(float(scalar), dtype=result.dtype))


def _constant(model: GraphModule, before: Node, prefix: str, value: torch.Tensor) -> Node:
    """A buffer with this value, under a free name, and the node that reads it."""
    name = _free_name(model, prefix)
    model.register_buffer(name, value)
    with model.graph.inserting_before(before):
        node = model.graph.create_node("get_attr", name)
    fake_mode: Any = getattr(before.meta["val"], "fake_mode")  # noqa: B009 - fake tensors only
    node.meta["val"] = fake_mode.from_tensor(value, static_shapes=True)
    return node


def _free_name(model: GraphModule, prefix: str) -> str:
    number = len(model._buffers)
    while hasattr(model, f"{prefix}{number}"):
        number += 1
    return f"{prefix}{number}"


def _swap_operands(model: GraphModule, node: Node) -> bool:
    """``rsub(x, 1)`` is ``sub(1, x)``, which the delegate has."""
    import torch

    scaled = argument(node, 2) or node.kwargs.get("alpha", 1)
    if scaled != 1 or not node.meta["val"].dtype.is_floating_point:
        return False
    entering, scalar = node.args[:2]
    lifted = _scalar(model, node, scalar, node.meta["val"])
    node.target, node.args = torch.ops.aten.sub.Tensor, (lifted, entering)
    return True


def _separate_bias(model: GraphModule, node: Node) -> bool:
    """Gives a call its own copy of a bias that another call uses too.

    The delegate quantizes a bias to int32 by the input's scale of the first call that it meets, so
    a module called twice would be wrong at the second call.
    """
    bias = argument(node, 2)
    if bias is None or bias.op != "get_attr" or node is next(iter(bias.users)):
        return False
    copy = _constant(model, node, BIAS, attribute(model, bias.target).detach().clone())
    node.args = (*node.args[:2], copy, *node.args[3:])
    return True


def attribute(model: GraphModule, path: str) -> torch.Tensor:
    """The parameter or buffer at a dotted path."""
    owner, _, name = path.rpartition(".")
    found: torch.Tensor = getattr(model.get_submodule(owner), name)
    return found


def _clamp_as_hardtanh(node: Node) -> bool:
    """A clamp with two bounds is a hardtanh, which the delegate fuses and a clamp it does not."""
    import torch

    low, high = argument(node, 1), argument(node, 2)
    if low is None or high is None or not node.meta["val"].dtype.is_floating_point:
        return False
    node.target = torch.ops.aten.hardtanh.default
    node.args = (node.args[0], float(low), float(high))
    return True


def spell_out_stride(node: Node) -> bool:
    """Gives a max_pool2d its stride, which is its window where the call leaves it out.

    executorch 1.4.1's partitioner reads it by position, and fails without.
    """
    if argument(node, 2):
        return False
    node.args = (*node.args[:2], node.args[1], *node.args[3:])
    return True
