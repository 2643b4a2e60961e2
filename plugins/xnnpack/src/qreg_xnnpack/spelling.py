"""Rewrites of operators that the delegate has in other forms, ahead of their annotation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qreg.annotators.rules import listed
from qreg.graph.moves import MOVES, without_copy, without_expand
from qreg.graph.nodes import argument, called
from qreg.graph.operators import COPIES, MEANS, UNSQUEEZE
from qreg_xnnpack.delegate import COMPUTING, HANDING_ON
from qreg_xnnpack.pooling import (
    SPATIAL,
    adaptive_pool_as_global_pool,
    mean_as_global_pool,
    pool_of_channels_last,
    whole_pool_as_global_pool,
)

if TYPE_CHECKING:
    from torch.fx import Node

    from qreg.graph.mutation import Mutations

BROADCASTING = frozenset({"aten.add.Tensor", "aten.sub.Tensor", "aten.mul.Tensor"})

SHUFFLED = [f"aten.{name}_shuffle.default" for name in ("channel", "pixel")]
SHUFFLED.append("aten.pixel_unshuffle.default")

SPELLED: dict[str, Callable[[Node], bool]] = {
    **MOVES,
    **dict.fromkeys(COPIES, without_copy),
    "aten.expand.default": partial(without_expand, broadcasting=BROADCASTING),
    "aten.mean.dim": mean_as_global_pool,
    "aten.avg_pool2d.default": whole_pool_as_global_pool,
    "aten.avg_pool1d.default": whole_pool_as_global_pool,
    "aten.adaptive_avg_pool1d.default": adaptive_pool_as_global_pool,
    "aten.adaptive_avg_pool2d.default": pool_of_channels_last,
}


def spell_out(node: Node, mutations: Mutations) -> bool:
    """Rewrite a call in ``SPELLED`` that int8 can reach; return whether it changed."""
    value: Any = node.meta["val"]
    first = value[0] if isinstance(value, (list, tuple)) else value
    name = called(node)
    if not first.dtype.is_floating_point or 0 in first.shape:
        return False
    if name in UNSQUEEZE and argument(node, 1) in (-1, first.dim() - 1):
        return False
    if name in MEANS and not _is_spatial(node) and not follows_int8(node):
        return False
    # Views of written memory stay views of it; a copy, and what becomes a reshape, must stay one.
    written = any(map(mutations.is_written, (node, *node.all_input_nodes)))
    return not (written and name in (*COPIES, *SHUFFLED)) and SPELLED[name](node)


def _is_spatial(mean: Node) -> bool:
    source: Any = mean.args[0]
    rank = source.meta["val"].dim()
    return rank == 4 and sorted(dim % rank for dim in listed(argument(mean, 1) or ())) == SPATIAL


def follows_int8(node: Node) -> bool:
    """Whether an operator that may run in int8 computes the input of a call."""
    source: Any = node.args[0]
    while called(source) in HANDING_ON:
        source = source.all_input_nodes[0]
    return called(source) in COMPUTING
