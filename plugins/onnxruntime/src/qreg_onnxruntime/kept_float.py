"""Keep float operators between quantized ones in float when the runtime optimizes a model.

If the input and the output activation of a compute operator are quantized, onnxruntime 1.32
quantizes its float weights, although its user kept them in float. Softmax and average pools get
integer kernels that are 2 to 4 times slower than the float kernels with their conversions; the
integer pool counts the last windows wrongly in ceil mode. A barrier prevents these rewrites.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from qreg.graph.walks import reachable
from qreg_onnxruntime.barriers import PASSING, insert_barrier

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SLOWER = ("AveragePool", "Softmax")


def with_kept_float(model: Any) -> Any:
    """Insert a barrier downstream of such operators; the model is rewritten in place."""
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
            insert_barrier(graph, node, consumers[node.output[0]])
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
