"""Rewrite means over the dimensions of an image as global average pools.

A global average pool has an integer kernel.
"""

from __future__ import annotations

from typing import Any

SPATIAL = [2, 3]


def with_global_pools(model: Any) -> Any:
    """Rewrite a model in place: torch.onnx exports every average of an image as a ReduceMean."""
    graph = model.graph
    ranks = _ranks(graph)
    constants = {each.name: each for each in graph.initializer}
    for position, node in reversed(list(enumerate(graph.node))):
        rank = ranks.get(node.input[0]) if node.op_type == "ReduceMean" else None
        if rank == 4 and _axes(node, constants, rank) == SPATIAL:
            _replace(graph, position, node)
    return model


def _ranks(graph: Any) -> dict[str, int]:
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
    }


def _axes(node: Any, constants: dict[str, Any], rank: int) -> list[int]:
    from onnx import numpy_helper

    given = constants.get(node.input[1]) if len(node.input) > 1 else None
    axes = [] if given is None else numpy_helper.to_array(given).reshape(-1).tolist()
    return sorted(axis % rank for axis in axes)


def _replace(graph: Any, position: int, node: Any) -> None:
    from onnx import helper

    keeps = all(each.i for each in node.attribute if each.name == "keepdims")
    (entering, axes), (leaving,) = node.input[:2], node.output
    origin, _, _ = node.name.rpartition("ReduceMean")
    pooled = leaving if keeps else f"{leaving}_pooled"
    names = f"{origin}GlobalAveragePool_{position}", f"{origin}Squeeze_{position}"
    nodes = [helper.make_node("GlobalAveragePool", [entering], [pooled], names[0])]
    if not keeps:
        nodes.append(helper.make_node("Squeeze", [pooled, axes], [leaving], names[1]))
    del graph.node[position]
    for each in reversed(nodes):
        graph.node.insert(position, each)
