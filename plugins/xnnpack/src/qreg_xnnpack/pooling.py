"""Rewrite means and average pools as the one average that the delegate has in int8.

That is the mean of each channel of an image, with its dimensions kept; views and permutes around
it give the rest. Each function rewrites a single call in place, leaves a call unchanged that it
cannot rewrite, and returns whether the call changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.annotators.rules import listed
from qreg.graph.insertion import call_before
from qreg.graph.moves import sizes_of
from qreg.graph.nodes import argument

if TYPE_CHECKING:
    from torch.fx import Node

IMAGE = 4  # dimensions: batch, channels, height, width
SPATIAL = [2, 3]


def mean_as_global_pool(node: Node) -> bool:
    """Rewrite a mean over any dimensions but the first as the mean of an image's channels.

    The reduced dimensions go last, and the others become the channels.
    """
    import torch

    aten, source = torch.ops.aten, node.args[0]
    assert isinstance(source, torch.fx.Node)
    rank, sizes, kept = source.meta["val"].dim(), sizes_of(source.meta["val"]), argument(node, 2)
    dims = sorted({dim % rank for dim in listed(argument(node, 1) or range(rank))}) if rank else []
    if not sizes or not dims or node.kwargs.get("dtype") or (kept and dims == SPATIAL):
        return False
    if 0 in dims or -1 in sizes[1:]:
        return False
    others = [dim for dim in range(rank) if dim not in dims]
    order = [*others, *dims]
    if order != list(range(rank)):
        source = call_before(node, aten.permute.default, source, order, inherit=True)
    image = _image([sizes[dim] for dim in others], [sizes[dim] for dim in dims])
    if image != [sizes[dim] for dim in order]:
        source = call_before(node, aten.reshape.default, source, image, inherit=True)
    pooled = call_before(node, aten.mean.dim, source, SPATIAL, True, inherit=True)
    return _viewed(node, pooled)


def _image(others: list[int], reduced: list[int]) -> list[int]:
    """Return the sizes of an image: the first kept size, the other ones, and the reduced ones."""
    import math

    height, width = (math.prod(reduced[:-1]), reduced[-1]) if len(reduced) > 1 else (reduced[0], 1)
    return [others[0], math.prod(others[1:]), height, width]


def whole_pool_as_global_pool(node: Node) -> bool:
    """Rewrite an average pool whose window is the whole image, in 1d or 2d.

    With ``ceil_mode``, the window may be larger: torch averages what the image has of it.
    """
    import torch

    source: Any = node.args[0]
    value, planes = source.meta["val"], 2 if "2d" in str(node.target) else 1
    window = listed(argument(node, 1))
    window = window * planes if len(window) == 1 else window
    sizes = list(value.shape[2:])
    whole = (
        all(isinstance(size, int) for size in sizes)
        and all(size <= wide for size, wide in zip(sizes, window, strict=False))
        and list(node.meta["val"].shape[2:]) == [1] * planes
    )
    divisor = argument(node, 6) or node.kwargs.get("divisor_override")
    if value.dim() != planes + 2 or not whole or any(listed(argument(node, 3) or 0)) or divisor:
        return False
    return _global_pool(node, torch.ops.aten.adaptive_avg_pool2d.default)


def adaptive_pool_as_global_pool(node: Node) -> bool:
    """Rewrite an adaptive average pool in 1d to one value as one in 2d."""
    import torch

    source: Any = node.args[0]
    if source.meta["val"].dim() != 3 or listed(argument(node, 1)) != [1]:
        return False
    return _global_pool(node, torch.ops.aten.adaptive_avg_pool2d.default)


def pool_of_channels_last(node: Node) -> bool:
    """Rewrite a pool to one value of an image whose channels are last in memory as a mean.

    The lowering would spell it out as a mean and an ``as_strided``, which the delegate has not.
    """
    import torch

    source: Any = node.args[0]
    value = source.meta["val"]
    last = value.dim() == IMAGE and value.is_contiguous(memory_format=torch.channels_last)
    if not last or set(listed(argument(node, 1))) != {1}:
        return False
    node.target, node.args = torch.ops.aten.mean.dim, (source, SPATIAL, True)
    return True


def _global_pool(node: Node, pool: Any) -> bool:
    import torch

    source: Any = node.args[0]
    if source.meta["val"].dim() == IMAGE:
        node.target, node.args, node.kwargs = pool, (source, [1, 1]), {}
        return True
    sizes = sizes_of(source.meta["val"])
    if sizes is None:
        return False
    image = call_before(node, torch.ops.aten.view.default, source, [*sizes, 1], inherit=True)
    return _viewed(node, call_before(node, pool, image, [1, 1], inherit=True))


def _viewed(node: Node, source: Node) -> bool:
    """Turn a call into a view of another, in its own shape."""
    import torch

    node.target, node.kwargs = torch.ops.aten.view.default, {}
    node.args = (source, sizes_of(node.meta["val"]))
    return True
