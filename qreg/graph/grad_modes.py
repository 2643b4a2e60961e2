"""Inline the subgraphs that torch.export creates for ``torch.no_grad()`` inside a model.

torch.export wraps these operators into ``wrap_with_set_grad_enabled``, where annotators do not find
them. For inference, the wrapper has no effect.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

WRAPPER = torch.ops.higher_order.wrap_with_set_grad_enabled


def inline_grad_modes(model: GraphModule) -> GraphModule:
    """Replace each wrapped subgraph by its operators, in place, including nested subgraphs."""
    while wrapped := model.graph.find_nodes(op="call_function", target=WRAPPER):
        for node in wrapped:
            _inline(model, node)
        model.graph.eliminate_dead_code()
        model.recompile()
    return model


def _inline(model: GraphModule, node: Node) -> None:
    _, body, *given = node.args
    assert isinstance(body, Node)
    inner = model.get_submodule(str(body.target))
    assert isinstance(inner, GraphModule)
    placeholders = inner.graph.find_nodes(op="placeholder")
    inside: dict[Node, Any] = dict(zip(placeholders, given, strict=True))
    with model.graph.inserting_before(node):
        results: Any = model.graph.graph_copy(inner.graph, inside)
    _replace(node, results)


def _replace(node: Node, results: Any) -> None:
    for user in list(node.users):
        assert user.target is operator.getitem
        user.replace_all_uses_with(results[user.args[1]])
        node.graph.erase_node(user)
    node.graph.erase_node(node)
