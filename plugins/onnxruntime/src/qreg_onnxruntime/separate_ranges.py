"""Keep two quantizations apart whose ranges barely overlap.

onnxruntime 1.32 merges a quantization and the one downstream of it: the scale of the merged one is
the overlap of both ranges divided by the number of steps. If the values of a relu were all zero in
the calibration data, the overlap is zero alone, and so is the scale: the integer global average
pool fails then, and other kernels divide by zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from qreg.graph.walks import reachable
from qreg_onnxruntime.barriers import PASSING, insert_barrier

LEAST_OVERLAP = 1 / 16  # of the narrower range: what is merged below that is nearly constant


def with_separate_ranges(model: Any) -> Any:
    """Insert a barrier upstream of such quantizations; the model is rewritten in place."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    constants = {each.name: each for each in graph.initializer}
    apart: dict[str, list[Any]] = defaultdict(list)
    for node in [each for each in graph.node if each.op_type == "QuantizeLinear"]:
        before = producers.get(node.input[0])
        if before is not None and any(
            _barely_overlap(node, each, constants) for each in _dequantized(before, producers)
        ):
            apart[node.input[0]].append(node)
    for value, quantizations in apart.items():
        insert_barrier(graph, producers[value], quantizations)
    return model


def _dequantized(node: Any, producers: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the dequantizations whose values reach the output of a node unchanged or clamped."""

    def upstream(name: str) -> Iterator[str]:
        node = producers[name]
        if node.op_type in PASSING and node.op_type != "Add" and node.input[0] in producers:
            yield node.input[0]

    for name in reachable(node.output[:1], upstream):
        if producers[name].op_type == "DequantizeLinear":
            yield producers[name]


def _barely_overlap(first: Any, second: Any, constants: Mapping[str, Any]) -> bool:
    ranges = _range(first, constants), _range(second, constants)
    if ranges[0] is None or ranges[1] is None:
        return False
    (low, high), (other_low, other_high) = ranges[0], ranges[1]
    overlap = min(high, other_high) - max(low, other_low)
    return overlap < LEAST_OVERLAP * min(high - low, other_high - other_low)


def _range(node: Any, constants: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the least and the greatest value of a quantization per tensor, or None for others."""
    import numpy
    from onnx import numpy_helper

    if len(node.input) < 3 or not all(name in constants for name in node.input[1:3]):
        return None
    scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    if scale.size != 1 or zero.dtype not in (numpy.uint8, numpy.int8):
        return None
    codes = numpy.iinfo(zero.dtype)
    return (
        float(scale.item() * (codes.min - int(zero.item()))),
        float(scale.item() * (codes.max - int(zero.item()))),
    )
