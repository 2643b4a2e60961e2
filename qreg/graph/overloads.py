"""Operators by their overloads, as exported programs have them."""

from __future__ import annotations

from torch._ops import OpOverloadPacket
from torch.fx import GraphModule


def with_overloads(model: GraphModule) -> GraphModule:
    """Replace operators without an overload by their default overloads, and return the graph.

    ``convert_pt2e`` (torchao 0.18.0) writes such calls for weights in groups.
    """
    for each in model.modules():  # the graph, and the bodies of loops in it
        if isinstance(each, GraphModule):
            _replace(each)
    return model


def _replace(model: GraphModule) -> None:
    calls = [node for node in model.graph.nodes if isinstance(node.target, OpOverloadPacket)]
    for node in calls:
        node.target = node.target.default
    if calls:
        model.recompile()
