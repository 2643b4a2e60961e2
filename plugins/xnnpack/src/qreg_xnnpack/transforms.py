"""Rewrites of the graph before it is annotated. None of them changes what the graph computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qreg.patterns import argument, operator_name, tensor_at

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

    from qreg.model import Mode

WITH_SCALARS = frozenset({"aten.add.Tensor", "aten.mul.Tensor", "aten.sub.Tensor"})
BIAS_POSITION = {
    "aten.linear.default": 2,
    "aten.conv1d.default": 2,
    "aten.conv2d.default": 2,
    "aten.conv_transpose1d.default": 2,
    "aten.conv_transpose2d.input": 2,
    "aten.addmm.default": 0,
}
DROPOUTS = frozenset({"aten.dropout.default", "aten.feature_dropout.default"})
IDENTITIES = frozenset({"aten.to.dtype", "aten.to.dtype_layout", "aten.alias.default"})
PADS = frozenset({"aten.pad.default", "aten.constant_pad_nd.default"})
SAME = {"aten.conv1d.padding": "conv1d", "aten.conv2d.padding": "conv2d"}
SCALAR, COPY = "_tensor_constant_", "_copy_"


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
    if name in SAME and _spell_out_padding(node, SAME[name]):
        return _rewrite(model, node, trained) or True
    if name in BIAS_POSITION and not trained:
        return _separate_constants(model, node, BIAS_POSITION[name])
    if name in DROPOUTS and not trained:
        return not argument(node, 2) and _bypass(node)
    if name in IDENTITIES:
        return changes_nothing(node) and _bypass(node)
    if name in PADS:
        return _pads_nothing(node) and _bypass(node)
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


def _pads_nothing(node: Node) -> bool:
    """A pad of width 0 before convolutions; elsewhere it may be a copy that is changed in place."""
    before_convolutions = all("aten.conv" in str(user.target) for user in node.users)
    return before_convolutions and not any(argument(node, 1))


def changes_nothing(node: Node) -> bool:
    """An alias, or a tensor "moved" to the type it has, which torch does not even copy.

    The delegate (executorch 1.4.1) runs one between int8 operators as a move of an image's
    channels, whatever the tensor's rank, and writes beyond the tensor: the process dies.
    """
    source: Any = node.args[0]
    before, after = source.meta["val"], node.meta["val"]
    copied = any(value is True for value in (*node.args, *node.kwargs.values()))
    return not copied and (before.dtype, before.stride()) == (after.dtype, after.stride())


def _bypass(node: Node) -> bool:
    """A node that gives its input stands in the way of patterns and of shared parameters."""
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    node.graph.erase_node(node)
    return True


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


def _separate_constants(model: GraphModule, node: Node, bias: int) -> bool:
    """Gives a call its own copies of what it cannot share with an earlier call.

    The delegate quantizes a bias to int32 by the input's scale of the first call that it meets, so
    a module called twice would be wrong at the second call. It lays a weight out for the first kind
    of operator that it meets, so convolutions and transposed ones cannot have one in common.
    """
    weight = 2 if bias == 0 else 1
    changed = _copy_argument(model, node, bias, lambda first: True)
    return _copy_argument(model, node, weight, lambda first: first.target != node.target) or changed


def _copy_argument(
    model: GraphModule, node: Node, position: int, differs: Callable[[Node], bool]
) -> bool:
    constant = argument(node, position)
    if getattr(constant, "op", "") != "get_attr":
        return False
    first = next(iter(constant.users))
    if first is node or not differs(first):
        return False
    copy = _constant(model, node, COPY, tensor_at(constant).detach().clone())
    node.args = (*node.args[:position], copy, *node.args[position + 1 :])
    return True


def _spell_out_padding(node: Node, name: str) -> bool:
    """Turns ``padding="same"`` or ``"valid"`` into numbers, where these are equal on both sides."""
    import torch

    weight: Any = node.args[1]
    kernel = weight.meta["val"].shape[2:]
    stride, kind, dilation, groups = (argument(node, position) for position in range(3, 7))
    gaps = list(dilation or [1]) * (len(kernel) if len(dilation or [1]) == 1 else 1)
    total = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
    if kind == "same" and any(amount % 2 for amount in total):
        return False
    padding = [amount // 2 if kind == "same" else 0 for amount in total]
    node.target = getattr(torch.ops.aten, name).default
    node.args = (*node.args[:2], argument(node, 2), stride or [1], padding, gaps, groups or 1)
    return True


def _clamp_as_hardtanh(node: Node) -> bool:
    """A clamp with two bounds is a hardtanh, which the delegate fuses and a clamp it does not."""
    import torch

    low, high = argument(node, 1), argument(node, 2)
    if low is None or high is None or low >= high or not node.meta["val"].dtype.is_floating_point:
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
