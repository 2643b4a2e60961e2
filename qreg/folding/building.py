"""Insert operators on constants into a graph, for later folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import define

if TYPE_CHECKING:
    from torch.fx import Node

# The name of the node whose output a node computes now that others are folded into it; empty if no
# node had that output.
COMPUTES = "qreg_computes"


def bring_ahead(nodes: Sequence[Node]) -> None:
    """Move the ``get_attr`` nodes of constants ahead of all operators."""
    for node in nodes:
        if node.op == "get_attr":
            first = next(each for each in node.graph.nodes if each.op != "placeholder")
            if first is not node:
                first.prepend(node)


@define
class Builder:
    """Insert operators ahead of a node, with its provenance, and record which are constant."""

    before: Node
    constants: set[Node]

    def __call__(self, target: Any, *args: Any) -> Any:
        sources = [each for each in args if isinstance(each, torch.fx.Node)]
        with self.before.graph.inserting_before(self.before):
            node = self.before.graph.call_function(target, args)
        node.meta = {**self.before.meta, "val": target(*map(_fake, args))}
        node.meta.pop(COMPUTES, None)
        if self.constants.issuperset(sources):
            self.constants.add(node)
        return node


def _fake(value: Any) -> Any:
    return value.meta["val"] if isinstance(value, torch.fx.Node) else value
