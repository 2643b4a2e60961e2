"""Operators that stay float between quantized ones, protected from what the runtime makes of them.

onnxruntime 1.32 quantizes the float weights of a product by itself, where what enters it and what
leaves it is quantized, although its user kept them in float. And there it has integer kernels for
softmax and average pools that are 2 to 4 times slower than the float ones with their conversions;
that for pools counts the last windows wrongly in ceil mode. A Max with the least number there is
stands in the way of all that, and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SLOWER = ("AveragePool", "Softmax")
# What the runtime moves a quantization across, or takes away in front of one.
PASSING = (
    *("Add", "Relu", "Clip", "MaxPool", "Identity"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Expand"),
)
LEAST = "least_number"


def with_kept_float(model: Any) -> Any:
    """Puts a Max behind such operators, in place."""
    graph = model.graph
    givers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)

    def before(node: Any) -> Iterable[Any]:
        return [givers[node.input[0]]] if node.input[0] in givers else []

    def behind(node: Any) -> Iterable[Any]:
        return readers[node.output[0]]

    for node in list(graph.node):
        enclosed = _meets(node, before, "DequantizeLinear") and _meets(
            node, behind, "QuantizeLinear"
        )
        if enclosed and _is_float(node, givers):
            _protect(graph, node, readers[node.output[0]])
    return model


def _meets(node: Any, following: Callable[[Any], Iterable[Any]], wanted: str) -> bool:
    """Whether one comes to an operator from a node, across those that the runtime passes over."""
    waiting = list(following(node))
    while waiting:
        each = waiting.pop()
        if each.op_type == wanted:
            return True
        if each.op_type in PASSING:
            waiting += following(each)
    return False


def _is_float(node: Any, givers: dict[str, Any]) -> bool:
    if node.op_type in SLOWER:
        return True
    if node.op_type not in PRODUCTS:
        return False
    weight = givers.get(node.input[1])
    while weight is not None and weight.op_type == "Transpose":
        weight = givers.get(weight.input[0])
    return weight is None or weight.op_type != "DequantizeLinear"


def _protect(graph: Any, node: Any, readers: Iterable[Any]) -> None:
    import numpy
    from onnx import helper, numpy_helper

    if LEAST not in {each.name for each in graph.initializer}:
        least = numpy.array(numpy.finfo(numpy.float32).min, numpy.float32)
        graph.initializer.append(numpy_helper.from_array(least, LEAST))
    value = node.output[0]
    protected = f"{value}_protected"
    for reader in readers:
        names = [protected if name == value else name for name in reader.input]
        reader.input[:] = names
    position = [each.name for each in graph.node].index(node.name) + 1
    graph.node.insert(
        position, helper.make_node("Max", [value, LEAST], [protected], f"Max_{value}")
    )
