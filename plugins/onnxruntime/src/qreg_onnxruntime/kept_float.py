"""Keep float operators between quantized ones in float when the runtime optimizes a model.

If the input and the output activation of a compute operator are quantized, onnxruntime 1.32
quantizes its float weights, although its user kept them in float. Softmax and average pools get
integer kernels that are 2 to 4 times slower than the float kernels with their conversions; the
integer pool counts the last windows wrongly in ceil mode. A Max with the least number prevents
these rewrites and changes no value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from qreg.graph.walks import reachable

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SLOWER = ("AveragePool", "Softmax")
# What the runtime moves a quantization across, or removes upstream of one.
PASSING = (
    *("Add", "Relu", "Clip", "MaxPool", "Identity"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Expand"),
)
LEAST = "least_number"


def with_kept_float(model: Any) -> Any:
    """Insert a Max downstream of such operators; the model is rewritten in place."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            consumers[name].append(node)

    def upstream(value: str) -> Iterator[str]:
        if value in producers and producers[value].op_type in PASSING:
            yield producers[value].input[0]

    def downstream(value: str) -> Iterator[str]:
        return (each.output[0] for each in consumers[value] if each.op_type in PASSING)

    for node in list(graph.node):
        above = (producers.get(value) for value in reachable(node.input[:1], upstream))
        below = (
            each for value in reachable(node.output[:1], downstream) for each in consumers[value]
        )
        enclosed = _has(above, "DequantizeLinear") and _has(below, "QuantizeLinear")
        if enclosed and _is_float(node, producers):
            _protect(graph, node, consumers[node.output[0]])
    return model


def _has(nodes: Iterable[Any], operator: str) -> bool:
    return any(each is not None and each.op_type == operator for each in nodes)


def _is_float(node: Any, producers: dict[str, Any]) -> bool:
    if node.op_type in SLOWER:
        return True
    if node.op_type not in PRODUCTS:
        return False
    weight = producers.get(node.input[1])
    while weight is not None and weight.op_type == "Transpose":
        weight = producers.get(weight.input[0])
    return weight is None or weight.op_type != "DequantizeLinear"


def _protect(graph: Any, node: Any, consumers: Iterable[Any]) -> None:
    import numpy
    from onnx import helper, numpy_helper

    if LEAST not in {each.name for each in graph.initializer}:
        least = numpy.array(numpy.finfo(numpy.float32).min, numpy.float32)
        graph.initializer.append(numpy_helper.from_array(least, LEAST))
    value = node.output[0]
    protected = f"{value}_protected"
    for consumer in consumers:
        names = [protected if name == value else name for name in consumer.input]
        consumer.input[:] = names
    position = [each.name for each in graph.node].index(node.name) + 1
    graph.node.insert(
        position, helper.make_node("Max", [value, LEAST], [protected], f"Max_{value}")
    )
