"""Insert calls into a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import Node


def call_before(
    node: Node,
    target: Any,
    *args: Any,
    value: Any = None,
    inherit: bool = False,
    name: str | None = None,
) -> Node:
    """Insert a call ahead of a node, and return it.

    The fake tensor of the call is ``value``, by default the result of ``target`` on the fake
    tensors of the arguments. With ``inherit``, the call has the provenance of the node: its origin,
    module and source line. Its name is ``name``, by default one that torch derives from ``target``.
    """
    from torch.fx.node import map_arg

    with node.graph.inserting_before(node):
        made = node.graph.create_node("call_function", target, args, name=name)
    if value is None:
        value = target(*map_arg(args, lambda each: each.meta["val"]))
    made.meta = {**(node.meta if inherit else {}), "val": value}
    return made
