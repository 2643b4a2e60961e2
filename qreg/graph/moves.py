"""Rewrite operators that only move values as slices, views and permutes.

Kernels and tables of patterns that have these three then cover ``select``, ``unbind``, ``stack``,
``squeeze``, ``unsqueeze`` and the shuffles. Each function rewrites a single call in place, leaves a
call unchanged that it cannot rewrite, and returns whether the call changed. A caller must not apply
them to memory that is written to.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, called
from qreg.graph.operators import RESHAPES

if TYPE_CHECKING:
    from torch.fx import Node


def sizes_of(value: Any) -> list[int] | None:
    """Return the shape of a tensor for a view: -1 is the dynamic size; None if there are several.

    Also None if another size is 0, because -1 would be ambiguous.
    """
    sizes = [size if isinstance(size, int) else -1 for size in value.shape]
    return None if sizes.count(-1) > 1 or (-1 in sizes and 0 in sizes) else sizes


def as_view(node: Node) -> bool:
    """Rewrite a call that only adds or removes dimensions of size 1, such as ``squeeze``."""
    import torch

    sizes = sizes_of(node.meta["val"])
    if sizes is None:
        return False
    node.target, node.kwargs = torch.ops.aten.view.default, {}
    node.args = (node.args[0], sizes)
    return True


def select_as_slice(node: Node) -> bool:
    """Rewrite ``x.select(dim, index)`` as a slice of one element, and a view without ``dim``."""
    source: Any = node.args[0]
    dim, index = argument(node, 1), argument(node, 2)
    if not is_static(source) or not isinstance(index, int):  # a node computes it from data
        return False
    node.args = (_element(node, source, dim, index),)
    return as_view(node)


def unbind_as_slices(node: Node) -> bool:
    """Rewrite ``x.unbind(dim)`` as slices of one element, and views without ``dim``."""
    source: Any = node.args[0]
    picked = list(node.users)
    if not is_static(source) or any(user.target is not operator.getitem for user in picked):
        return False
    for user in picked:
        index: Any = user.args[1]
        user.meta = {**node.meta, "val": node.meta["val"][index]}
        user.args = (_element(user, source, argument(node, 1) or 0, index),)
        as_view(user)
    node.graph.erase_node(node)
    return True


def _element(before: Node, source: Node, dim: Any, index: Any) -> Node:
    """Insert the slice of one element along a dimension; either may be counted from the end."""
    import torch

    shape = source.meta["val"].shape
    start = index % shape[dim]
    bounds = (dim % len(shape), start, start + 1)
    return call_before(before, torch.ops.aten.slice.Tensor, source, *bounds, inherit=True)


def stack_as_cat(node: Node) -> bool:
    """Rewrite a ``stack`` as a ``cat`` of views with one more dimension."""
    import torch

    aten, value = torch.ops.aten, node.meta["val"]
    dim: Any = argument(node, 1) or 0
    dim %= value.dim()
    if not is_static(node):
        return False
    listed: Any = node.args[0]
    sizes = [*value.shape[:dim], 1, *value.shape[dim + 1 :]]
    parts = [call_before(node, aten.view.default, each, sizes, inherit=True) for each in listed]
    node.target, node.args, node.kwargs = aten.cat.default, (parts, dim), {}
    return True


def pixel_shuffle_as_permute(node: Node) -> bool:
    """Rewrite ``pixel_shuffle``: channels ``(c, r, r)`` of an image become its rows and columns."""
    sizes = _image(node)
    if sizes is None:
        return False
    batch, (channels, height, width), factor = sizes
    blocks = [*batch, channels // factor**2, factor, factor, height, width]
    return _permuted(node, blocks, (0, 3, 1, 4, 2))


def pixel_unshuffle_as_permute(node: Node) -> bool:
    """Rewrite ``pixel_unshuffle``: blocks of ``r`` rows and columns become channels."""
    sizes = _image(node)
    if sizes is None:
        return False
    batch, (channels, height, width), factor = sizes
    blocks = [*batch, channels, height // factor, factor, width // factor, factor]
    return _permuted(node, blocks, (0, 2, 4, 1, 3))


def channel_shuffle_as_permute(node: Node) -> bool:
    """Rewrite ``channel_shuffle``: channels ``(groups, c)`` become ``(c, groups)``."""
    groups: Any = argument(node, 1)
    sizes = sizes_of(node.meta["val"])
    if sizes is None or sizes[1] == -1:
        return False
    batch, channels, *image = sizes
    return _permuted(node, [batch, groups, channels // groups, *image], (1, 0), leading=1)


def _image(node: Node) -> tuple[list[int], list[int], int] | None:
    """Return batch, sizes ``(c, h, w)`` and factor of a shuffle; None for dynamic images."""
    source: Any = node.args[0]
    factor: Any = argument(node, 1)
    sizes = sizes_of(source.meta["val"])
    if sizes is None or not 3 <= len(sizes) <= 4 or -1 in sizes[-3:]:
        return None
    return sizes[:-3], sizes[-3:], factor


def _permuted(
    node: Node, blocks: list[int], order: Sequence[int], *, leading: int | None = None
) -> bool:
    """Rewrite a call as a view in blocks, a permute of them, and a reshape to the result.

    ``order`` is that of the dimensions after the ``leading`` ones; those after it stay.
    """
    import torch

    aten = torch.ops.aten
    first = len(blocks) - len(order) if leading is None else leading
    last = range(first + len(order), len(blocks))
    whole = [*range(first), *(first + place for place in order), *last]
    sizes = sizes_of(node.meta["val"])
    split = call_before(node, aten.reshape.default, node.args[0], blocks, inherit=True)
    moved = call_before(node, aten.permute.default, split, whole, inherit=True)
    node.target, node.args, node.kwargs = aten.reshape.default, (moved, sizes), {}
    return True


def without_expand(node: Node, broadcasting: Collection[str]) -> bool:
    """Bypass an ``expand`` whose readers all broadcast, with the same result."""
    source: Any = node.args[0]
    for reader in node.users:
        shape = tuple(node.meta["val"].shape)
        others = [each for each in reader.all_input_nodes if each is not node]
        full = [each for each in others if tuple(each.meta["val"].shape) == shape]
        if called(reader) not in broadcasting or not full:
            return False
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)
    return True


def without_copy(node: Node) -> bool:
    """Bypass a ``clone`` or ``contiguous`` that no reader needs.

    Its strides must be those of its input, or all readers be views, which then copy instead of it:
    other readers would hand the strides on.
    """
    import torch

    reshape, source = torch.ops.aten.reshape.default, node.args[0]
    assert isinstance(source, torch.fx.Node)
    if any(not called(reader) for reader in node.users):
        return False  # an output of the graph, which its reader may change
    value = source.meta["val"]
    if value.stride() != node.meta["val"].stride():
        for reader in node.users:
            if called(reader) not in RESHAPES:
                return False
            reshaped = reshape(value, list(reader.meta["val"].shape))
            if reshaped.stride() != reader.meta["val"].stride():
                return False
        for reader in node.users:
            if called(reader) == "aten.view.default":
                reader.target = reshape
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)
    return True


def is_static(node: Node) -> bool:
    """Whether all sizes of a tensor are known."""
    return all(isinstance(size, int) for size in node.meta["val"].shape)


MOVES: Mapping[str, Callable[[Node], bool]] = {
    "aten.select.int": select_as_slice,
    "aten.unbind.int": unbind_as_slices,
    "aten.stack.default": stack_as_cat,
    "aten.squeeze.default": as_view,
    "aten.squeeze.dim": as_view,
    "aten.squeeze.dims": as_view,
    "aten.unsqueeze.default": as_view,
    "aten.pixel_shuffle.default": pixel_shuffle_as_permute,
    "aten.pixel_unshuffle.default": pixel_unshuffle_as_permute,
    "aten.channel_shuffle.default": channel_shuffle_as_permute,
}
