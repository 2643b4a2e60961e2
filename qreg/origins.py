"""Which operator of the annotated graph a node comes from, however often it was exported since.

The name is kept where torch keeps what users note down of a node: it survives conversion, export,
decomposition and lowering, while the names of the nodes themselves do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import Graph, Node

CUSTOM, KEY = "custom", "qreg"


def mark(graph: Graph) -> None:
    """Notes down, in each operator of a graph, what it is called there."""
    from torch._ops import HigherOrderOperator, OpOverload

    for node in graph.nodes:
        if isinstance(node.target, (OpOverload, HigherOrderOperator)):
            node.meta[CUSTOM] = {**node.meta.get(CUSTOM, {}), KEY: node.name}


def origin(node: Node) -> str | None:
    """The name that the operator had in the annotated graph; None for what was not in it."""
    found: str | None = node.meta.get(CUSTOM, {}).get(KEY)
    return found
