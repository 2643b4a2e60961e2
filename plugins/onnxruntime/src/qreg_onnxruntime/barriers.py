"""A barrier in a model that the runtime's optimizer moves no quantization across.

It is a Max with the least number, which changes no value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# What the runtime moves a quantization across, or removes upstream of one.
PASSING = (
    *("Add", "Relu", "Clip", "MaxPool", "Identity"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Expand"),
)
LEAST = "least_number"


def insert_barrier(graph: Any, node: Any, consumers: Iterable[Any]) -> None:
    """Insert a barrier between a node and consumers of its first output, in place."""
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
