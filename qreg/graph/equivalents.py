"""Rewrite a call as equivalent calls that more kernels support, in graphs and in programs.

Each function rewrites a single call in place, and leaves calls unchanged that need no rewrite.
"""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument
from qreg.graph.operators import ADDMM
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Node


def spell_out_stride(pool: Node) -> bool:
    """Add the stride to a pooling that omits it; the default is the window size.

    executorch 1.4.1 reads the stride by position. Return whether the node changed.
    """
    if argument(pool, 2):
        return False
    pool.args = (*pool.args[:2], pool.args[1], *pool.args[3:])
    return True


def spell_out_alpha(add: Node) -> None:
    """Rewrite ``add(a, b, alpha=2)`` as ``a + b * 2``."""
    import torch

    alpha: Any = add.kwargs.get("alpha", 1)
    one, other = add.args[:2]
    if alpha != 1 and isinstance(other, torch.fx.Node):
        scaled = call_before(add, torch.ops.aten.mul.Tensor, other, alpha, inherit=True)
        add.args, add.kwargs = (one, scaled), {}


def double_by_factor(add: Node) -> None:
    """Rewrite ``add(a, a)`` as ``a * 2``."""
    import torch

    one, other = add.args[:2]
    if one is other and add.kwargs.get("alpha", 1) == 1:
        add.target, add.args, add.kwargs = torch.ops.aten.mul.Tensor, (one, 2), {}


def product_without_bias(node: Node, *, inherit: bool = False, name: str | None = None) -> Node:
    """Insert the product of a ``linear`` or ``addmm`` without its bias ahead of it; return it.

    ``inherit`` and ``name`` are those of :func:`~qreg.graph.insertion.call_before`.
    """
    import torch

    aten = torch.ops.aten
    is_addmm = operator_name(node.target) in ADDMM
    factors = node.args[1:3] if is_addmm else node.args[:2]
    target = aten.mm.default if is_addmm else aten.linear.default
    value = node.meta["val"]
    return call_before(node, target, *factors, value=value, inherit=inherit, name=name)


def bias_of(node: Node) -> Any:
    """Return the bias of a ``linear`` or ``addmm``, None for a linear without one."""
    return argument(node, 0 if operator_name(node.target) in ADDMM else 2)


def is_row(bias: Node, node: Node) -> bool:
    """Whether a bias is one number for each column of the result of a node."""
    return list(bias.meta["val"].shape) == list(node.meta["val"].shape[-1:])


def add_bias(node: Node) -> None:
    """Rewrite a ``linear`` or ``addmm`` as a product and a sum, unless its bias is a row.

    The factors of an ``addmm`` become multiplications.
    """
    import torch

    aten, bias = torch.ops.aten, bias_of(node)
    beta, alpha = (node.kwargs.get(name, 1) for name in ("beta", "alpha"))
    if bias is None or ((alpha, beta) == (1, 1) and is_row(bias, node)):
        return
    product = product_without_bias(node)
    if alpha != 1:
        product = call_before(node, aten.mul.Tensor, product, alpha)
    if beta != 1:
        bias = call_before(node, aten.mul.Tensor, bias, beta)
    node.target, node.args, node.kwargs = aten.add.Tensor, (product, bias), {}


def add_batch(pool: Node) -> None:
    """Rewrite a 2d pooling of an image without a batch as one with a batch of 1."""
    import torch

    aten, value = torch.ops.aten, pool.meta["val"]
    if value.dim() != 3:
        return
    image = call_before(pool, aten.unsqueeze.default, pool.args[0], 0)
    pooled = call_before(pool, pool.target, image, *pool.args[1:], value=value.unsqueeze(0))
    pooled.kwargs = pool.kwargs
    pool.target, pool.args, pool.kwargs = aten.squeeze.dim, (pooled, 0), {}


def crop_by_slices(pad: Node) -> None:
    """Rewrite the negative amounts of a constant pad as slices."""
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


def without_positions(maximum: Node) -> None:
    """Replace a ``max.dim`` with an ``amax`` if only its values are read."""
    import torch

    values = [user for user in maximum.users if user.target is operator.getitem]
    if len(values) < len(maximum.users) or any(user.args[1] != 0 for user in values):
        return
    source, dim = maximum.args[:2]
    keepdim = bool(argument(maximum, 2) or maximum.kwargs.get("keepdim", False))
    value = maximum.meta["val"][0]
    amax = torch.ops.aten.amax.default
    largest = call_before(maximum, amax, source, [dim], keepdim, value=value, inherit=True)
    for user in values:
        user.replace_all_uses_with(largest)
        maximum.graph.erase_node(user)
    maximum.graph.erase_node(maximum)
