"""Rewrite means over the dimensions of an image as global average pools.

A global average pool has an integer kernel. In onnxruntime 1.32, the kernel fails if the scale of
its sum is 256 times the scale of its result or more.
"""

from __future__ import annotations

from typing import Any

SPATIAL = [2, 3]
# Of the scale of the sum to that of the result. Merged quantizations have 1/16 of a scale at least.
LARGEST_RATIO = 256 / 16


def with_global_pools(model: Any) -> Any:
    """Rewrite a model in place: torch.onnx exports every average of an image as a ReduceMean."""
    graph = model.graph
    shapes = _shapes(graph)
    constants = {each.name: each for each in graph.initializer}
    scales = _scales(graph, constants)
    for position, node in reversed(list(enumerate(graph.node))):
        shape = shapes.get(node.input[0], ()) if node.op_type == "ReduceMean" else ()
        spatial = len(shape) == 4 and _axes(node, constants, 4) == SPATIAL
        if spatial and _computes(node, shape[2] * shape[3], scales):
            _replace(graph, position, node)
    return model


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the values of a graph; dimensions of unknown size are 1."""
    return {
        value.name: tuple(each.dim_value or 1 for each in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
    }


def _scales(graph: Any, constants: dict[str, Any]) -> dict[str, float]:
    """Return the scales of the values that a quantization per tensor reads or writes."""
    from onnx import numpy_helper

    scales = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[1] in constants:
            scale = numpy_helper.to_array(constants[node.input[1]])
            value = node.input[0] if node.op_type == "QuantizeLinear" else node.output[0]
            if scale.size == 1:
                scales[value] = float(scale.item())
    return scales


def _computes(node: Any, elements: int, scales: dict[str, float]) -> bool:
    """Whether the integer kernel runs with the scales of a mean, if both are known."""
    entering, leaving = scales.get(node.input[0]), scales.get(node.output[0])
    if entering is None or leaving is None:
        return True
    return entering < LARGEST_RATIO * leaving * elements


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
