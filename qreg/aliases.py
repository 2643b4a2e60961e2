"""Which tensors of a graph are changed in place under the eyes of a view.

An observer behind such a tensor cuts it off from its views: ``y[:, :4].mul_(3)`` would change a
view of the tensor before it was observed, and whoever reads ``y`` behind it would miss that.
A change in place of a whole tensor, as by ``relu_``, is harmless.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import Graph, Node


def mutated_through_views(graph: Graph) -> set[Node]:
    """The nodes that share memory which is written to by one of them and read through another."""
    position = {node: number for number, node in enumerate(graph.nodes)}
    owner: dict[Node, Node] = {}
    views: dict[Node, set[Node]] = defaultdict(set)  # by owner, those made so far
    touched: set[Node] = set()
    for node in graph.nodes:
        info = _alias_info(node)
        if info is None:
            continue
        source = node.args[0]
        root = owner.setdefault(source, source)
        owner[node] = root
        if not info.is_write:
            views[root].add(node)
        elif source in views[root] or any(
            position[user] > position[node] for view in views[root] for user in view.users
        ):
            touched.add(root)
        if info.is_write and source in views[root]:
            views[root].add(node)
    return {node for node, root in owner.items() if root in touched}


def _alias_info(node: Node) -> Any:
    """How the result shares the memory of the first argument; None if it has its own."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not (schema.arguments and schema.returns and node.args):
        return None
    shares = schema.returns[0].alias_info is not None and hasattr(node.args[0], "users")
    return schema.arguments[0].alias_info if shares else None
