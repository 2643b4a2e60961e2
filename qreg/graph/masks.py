"""Write the mask of attention as numbers, which delegates add and multiply.

Softmax over ``scores + bias`` is that of torch for each row with a key: the bias of a hidden key
absorbs its score. A row without keys has equal weights, which ``visible`` makes 0 as torch does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.graph.insertion import call_before
from qreg.graph.nodes import shape_of

if TYPE_CHECKING:
    from torch.fx import Node

RANK = 4  # batch, heads, queries, keys
HIDDEN = -1e30  # absorbs every score in float32, and is finite, so that no difference is NaN


@frozen
class Mask:
    """What is added to scores, and what weights are multiplied by: 1 for a visible key, else 0.

    ``visible`` is None if no row is without keys.
    """

    bias: Node
    visible: Node | None = None


def causal(attention: Node, query: Node, key: Node, times: int) -> Mask:
    """Return the mask in which each query sees the keys up to its own position."""
    import torch

    aten, call = torch.ops.aten, partial(call_before, attention, inherit=True)
    rows = call(aten.unsqueeze.default, _positions(attention, query), 1)
    seen = call(aten.le.Tensor, _positions(attention, key), rows)
    return Mask(of_values(attention, seen, times).bias)


def _positions(attention: Node, value: Node) -> Node:
    """Return the numbers of the positions of a tensor of shape (batch, heads, length, depth)."""
    import torch

    size = shape_of(value)[2]
    if not isinstance(size, int):
        size = call_before(attention, torch.ops.aten.sym_size.int, value, 2)
    return call_before(attention, torch.ops.aten.arange.default, size, inherit=True)


def of_values(attention: Node, mask: Node, times: int) -> Mask:
    """Return the numbers of a mask of booleans, or of values to add.

    They have rank 3, (1, queries, keys), for a mask that is the same for all heads, else rank 4.
    ``times`` repeats the queries, for heads that share a key.
    """
    import torch

    aten, call = torch.ops.aten, partial(call_before, attention, inherit=True)
    for _ in range(mask.meta["val"].dim(), RANK):
        mask = call(aten.unsqueeze.default, mask, 0)
    if is_for_all_heads(mask):
        mask = call(aten.select.int, mask, 1, 0)
    if times > 1 and shape_of(mask)[-2] != 1:
        mask = call(aten.cat.default, [mask] * times, mask.meta["val"].dim() - 2)
    if mask.meta["val"].dtype is torch.bool:
        visible = call(aten.to.dtype, mask, torch.float32)
        bias = call(aten.mul.Tensor, call(aten.sub.Tensor, visible, 1.0), -HIDDEN)
        return Mask(bias, visible)
    visible = call(aten.to.dtype, call(aten.gt.Scalar, mask, HIDDEN), torch.float32)
    return Mask(call(aten.clamp.default, mask, HIDDEN), visible)


def is_for_all_heads(mask: Node) -> bool:
    """Whether a mask is the same for each sequence and each head."""
    leading: list[Any] = shape_of(mask)[:-2]
    return all(size == 1 for size in leading)


def fits(mask: Node, query: Node, key: Node) -> bool:
    """Whether a mask has the type of scores, or of booleans, and sizes that are scores' or 1."""
    import torch

    value = mask.meta["val"]
    scores = [*shape_of(query)[:3], shape_of(key)[2]]
    sizes = [1] * (RANK - value.dim()) + list(value.shape)
    known = value.dtype in (torch.bool, torch.float32) and len(sizes) == RANK
    return known and all(size in (1, wanted) for size, wanted in zip(sizes, scores, strict=True))
