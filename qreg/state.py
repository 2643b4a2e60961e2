"""What a model keeps between calls, such as a cache: runs of ours must leave it as it was.

The float model, the prepared one and the converted one share their buffers, with each other and
with the module of the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.fx import GraphModule

from qreg.patterns import tensor_at


def changed_buffers(model: object) -> list[Tensor]:
    """The tensors of a graph module that its operators write to."""
    if not isinstance(model, GraphModule):
        return []
    nodes = [node for node in model.graph.nodes if _writes(node.target)]
    written = {_viewed(n.args[0]) for n in nodes if isinstance(n.args[0], torch.fx.Node)}
    return [tensor_at(node) for node in written if node.op == "get_attr"]


def _writes(target: object) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _viewed(node: torch.fx.Node) -> torch.fx.Node:
    """The node that a view, or a view of a view, is a part of."""
    while _is_view(node.target) and isinstance(node.args[0], torch.fx.Node):
        node = node.args[0]
    return node


def _is_view(target: object) -> bool:
    """Whether what an operator returns shares its memory with what it takes."""
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return any(value.alias_info is not None for value in target._schema.returns)


@contextmanager
def keeping_state(model: object) -> Iterator[None]:
    """Gives the buffers that a model changes the values back that they had before."""
    buffers = changed_buffers(model)
    before = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
