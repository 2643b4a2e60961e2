"""Rewrite a graph ahead of annotation: building blocks for the transforms of backends.

Rewrites do not change the outputs of a graph. Each one rewrites a single node, and returns whether
the node changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qreg.graph.equivalents import bias_of, is_row, product_without_bias
from qreg.graph.nodes import argument, is_in_place, tensor_at
from qreg.graph.operators import ADD, ADDMM, DROPOUTS, IDENTITIES, LINEAR, MUL, SUB
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule, Node

    from qreg.graph.mutation import Mutations
    from qreg.plugins.types.backend import Mode


WITH_SCALARS = frozenset({*ADD, *MUL, *SUB})
SAME = {"aten.conv1d.padding": "conv1d", "aten.conv2d.padding": "conv2d"}
SCALAR, COPY = "_tensor_constant_", "_copy_"
BIASED = {**dict.fromkeys(ADDMM, 0), **dict.fromkeys(LINEAR, 2)}  # and the position of their bias


def rewritten(model: GraphModule, rewrite: Callable[[Node], bool]) -> GraphModule:
    """Rewrite every call of a graph in one walk, in place, and return the graph."""
    changed = [rewrite(node) for node in list(model.graph.nodes) if node.op == "call_function"]
    if any(changed):
        model.recompile()
    return model


def simplified(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Apply all simplifying rewrites: the transform of a backend without special requirements."""
    return rewritten(model, lambda node: simplify(model, node, "qat" in modes))


def without_dropouts(model: GraphModule) -> GraphModule:
    """Remove inactive dropouts, which return their input, and return the graph."""
    return rewritten(model, _bypass_dropout)


def _bypass_dropout(node: Node) -> bool:
    return operator_name(node.target) in DROPOUTS and not argument(node, 2) and bypass(node)


def simplify(model: GraphModule, node: Node, trained: bool) -> bool:
    """Turn scalars into tensors that can be quantized, and paddings by name into numbers.

    Operators that return their input, such as an inactive dropout, are bypassed. In a model that
    is ``trained``, dropouts stay. Return whether the node changed.
    """
    name = operator_name(node.target)
    if name in WITH_SCALARS:
        return lift_scalars(model, node)
    if name == "aten.rsub.Scalar":
        return swap_operands(model, node)
    if name in SAME:
        return spell_out_padding(node, SAME[name])
    if name in DROPOUTS and not trained:
        return _bypass_dropout(node)
    return name in IDENTITIES and changes_nothing(node) and bypass(node)


def scalars_to_attributes(model: GraphModule) -> GraphModule:
    """Turn the scalars of ``x + 1``, ``x - 1`` and ``x * 2`` into tensors that can be quantized.

    A scalar is converted to the dtype of a floating-point result. Other calls do not change, since
    a float attribute would change the result of ``ids + 1``.
    """
    return rewritten(
        model,
        lambda node: operator_name(node.target) in WITH_SCALARS and lift_scalars(model, node),
    )


def lift_scalars(model: GraphModule, node: Node) -> bool:
    """Turn the scalars of one call into tensors in the dtype of a floating-point result.

    Return whether the node changed.
    """
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

    return new_constant(model, before, SCALAR, torch.tensor(float(scalar), dtype=result.dtype))


def new_constant(model: GraphModule, before: Node, prefix: str, value: torch.Tensor) -> Node:
    """Register a buffer with this value under a free name, and return the node that reads it."""
    name = _free_name(model, prefix)
    model.register_buffer(name, value)
    with model.graph.inserting_before(before):
        node = model.graph.create_node("get_attr", name)
    fake_mode: Any = getattr(before.meta["val"], "fake_mode")  # noqa: B009 - fake tensors only
    node.meta["val"] = fake_mode.from_tensor(value, static_shapes=True)
    return node


def copy_constant(model: GraphModule, node: Node, position: int) -> None:
    """Let a call read a copy of the parameter or buffer that is one of its arguments."""
    value = tensor_at(argument(node, position)).detach().clone()
    node.update_arg(position, new_constant(model, node, COPY, value))


def _free_name(model: GraphModule, prefix: str) -> str:
    number = len(model._buffers)
    while hasattr(model, f"{prefix}{number}"):
        number += 1
    return f"{prefix}{number}"


def changes_nothing(node: Node) -> bool:
    """Whether a node is an alias, or a conversion to the present type that torch does not copy."""
    source: Any = node.args[0]
    before, after = source.meta["val"], node.meta["val"]
    copied = any(value is True for value in (*node.args, *node.kwargs.values()))
    return not copied and (before.dtype, before.stride()) == (after.dtype, after.stride())


def bypass(node: Node) -> bool:
    """Remove a node that returns its input, since it blocks patterns and shared qparams."""
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    node.graph.erase_node(node)
    return True


def swap_operands(model: GraphModule, node: Node) -> bool:
    """Turn ``rsub(x, 1)`` into ``sub(1, x)``, which is in tables of patterns."""
    import torch

    scaled = argument(node, 2) or node.kwargs.get("alpha", 1)
    if scaled != 1 or not node.meta["val"].dtype.is_floating_point:
        return False
    entering, scalar = node.args[:2]
    lifted = _scalar(model, node, scalar, node.meta["val"])
    node.target, node.args = torch.ops.aten.sub.Tensor, (lifted, entering)
    return True


def spell_out_padding(node: Node, name: str) -> bool:
    """Turn ``padding="same"`` or ``"valid"`` into numbers, if these are equal on both sides."""
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


def divide_by_factor(model: GraphModule, node: Node, trained: bool, mutations: Mutations) -> bool:
    """Turn a division by a number or constant into a multiplication by its reciprocal.

    The results differ by one rounding. A constant that is trained or written to stays a divisor.
    Return whether the node changed.
    """
    import torch

    source, divisor = node.args[:2]
    value = node.meta["val"]
    if not isinstance(source, torch.fx.Node) or source.meta["val"].dtype != value.dtype:
        return False
    if isinstance(divisor, torch.fx.Node):
        constant = divisor.op == "get_attr" and not trained and not mutations.is_state(divisor)
        if not constant:
            return False
        divided_by = tensor_at(divisor).detach()
    else:
        divided_by = torch.tensor(divisor)
    factor = divided_by.to(value.dtype).reciprocal()
    if not value.dtype.is_floating_point or not factor.isfinite().all():
        return False
    in_place = is_in_place(node)
    node.target = torch.ops.aten.mul_.Tensor if in_place else torch.ops.aten.mul.Tensor
    node.args = (source, new_constant(model, node, SCALAR, factor))
    return True


def separate_odd_biases(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Add the bias of a matmul separately if it is not one number for each output column.

    Integer kernels compute a matmul with such a bias in float, but without the bias in integers. A
    constant bias of one row or one number is expanded to a number for each column instead, unless
    it is trained.
    """
    from qreg.graph.mutation import Mutations

    mutations, trained = Mutations.of(model.graph), "qat" in modes

    def rewrite(node: Node) -> bool:
        position = BIASED.get(operator_name(node.target))
        bias = None if position is None else argument(node, position)
        if position is None or bias is None or is_in_place(node) or is_row(bias, node):
            return False
        if _stands_for_row(bias, node) and not trained and not mutations.is_state(bias):
            row = tensor_at(bias).detach().reshape(-1).expand(_columns(node)).clone()
            node.update_arg(position, new_constant(model, node, "_bias_", row))
            return True
        return {node.kwargs.get(name, 1) for name in ("alpha", "beta")} == {1} and _add(node)

    return rewritten(model, rewrite)


def _columns(node: Node) -> Any:
    return node.meta["val"].shape[-1]


def _stands_for_row(bias: Node, node: Node) -> bool:
    """Whether a bias is a constant with one row, or one number, for all rows of the result."""
    columns = _columns(node)
    shape = bias.meta["val"].shape
    one_row = shape.numel() in (1, columns) and shape[-1:].numel() == shape.numel()
    return bias.op == "get_attr" and isinstance(columns, int) and one_row


def _add(node: Node) -> bool:
    """Turn a matmul with a bias into the sum of a matmul and the bias."""
    import torch

    bias = bias_of(node)
    product = product_without_bias(node, inherit=True, name=f"{node.name}_product")
    node.target, node.args, node.kwargs = torch.ops.aten.add.Tensor, (product, bias), {}
    return True
