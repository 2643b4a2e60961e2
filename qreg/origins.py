"""Which operator of the annotated graph a node comes from, however often it was exported since.

The name is kept where torch keeps what users note down of a node: it survives conversion, export,
decomposition and lowering, while the names of the nodes themselves do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.fx import Graph, Node

CUSTOM, KEY = "custom", "qreg"


def mark(graph: Graph, prefix: str = "") -> None:
    """Notes down, in each operator of a graph, what it is called there.

    ``prefix`` tells the operators of a body, as of a scan, from those of the graph around it.
    """
    from torch._ops import HigherOrderOperator, OpOverload

    for node in graph.nodes:
        if isinstance(node.target, (OpOverload, HigherOrderOperator)):
            node.meta[CUSTOM] = {**node.meta.get(CUSTOM, {}), KEY: f"{prefix}{node.name}"}


def origin(node: Node) -> str | None:
    """The name that the operator had in the annotated graph; None for what was not in it."""
    found: str | None = node.meta.get(CUSTOM, {}).get(KEY)
    return found
