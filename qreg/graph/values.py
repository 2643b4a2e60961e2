"""Constants of a graph: the nodes that read them, and their tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.fx import Node


def constant_at(node: Node, position: int) -> Node | None:
    """Return the ``get_attr`` node of a constant argument, through its observer; None if absent."""
    given = node.args[position] if position < len(node.args) else None
    if isinstance(given, Node) and given.op == "call_module":
        given = given.args[0]
    return given if isinstance(given, Node) and given.op == "get_attr" else None


def value_of(model: nn.Module, constant: Node) -> Tensor:
    """Return the tensor of a ``get_attr`` node."""
    found: Any = model
    for part in str(constant.target).split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]
