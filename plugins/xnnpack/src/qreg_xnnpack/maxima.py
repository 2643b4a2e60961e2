"""Maxima over one dimension, without their positions.

The delegate (executorch 1.4.1) accepts ``max.dim`` where its positions are unused. It fails to
lower it unless the dimension is one of the last two of an image; for ``amax`` it checks that.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from qreg.graph.nodes import argument

if TYPE_CHECKING:
    from torch.fx import Node


def without_positions(node: Node) -> None:
    """Replace a ``max.dim`` with an ``amax``, in place, if only its values are read."""
    import torch

    values = [user for user in node.users if user.target is operator.getitem]
    if len(values) < len(node.users) or any(user.args[1] != 0 for user in values):
        return
    with node.graph.inserting_before(node):
        source, dim = node.args[:2]
        keepdim = bool(argument(node, 2) or node.kwargs.get("keepdim", False))
        largest = node.graph.call_function(torch.ops.aten.amax.default, (source, [dim], keepdim))
    largest.meta = {**node.meta, "val": node.meta["val"][0]}
    for user in values:
        user.replace_all_uses_with(largest)
        node.graph.erase_node(user)
    node.graph.erase_node(node)
