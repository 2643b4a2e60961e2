"""The share of an OpenVINO model's multiply-accumulates that its compiled kernels do in int8.

The count reads the model and its runtime model only, so it is the same for all quantizers.
"""

from __future__ import annotations

import math
from typing import Any

from attrs import frozen

# The dimensions ahead of those of the weight that one output meets, or one input if transposed.
CONVOLUTIONS = {"Convolution": 1, "GroupConvolution": 2, "ConvolutionBackpropData": 1}
KERNELS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
OTHERS = ("MatMul", "ScaledDotProductAttention", "LSTMSequence")


def int8_share(model: Any, compiled: Any) -> float:
    """Return the share in int8 of a model with static shapes; 0 without multiply-accumulates."""
    known = {each.get_friendly_name(): each for each in model.get_ops() if _count(each)}
    kernels = list(map(_Kernel.of, compiled.get_runtime_model().get_ordered_ops()))
    scores = {name for each in kernels if each.has_int8_scores for name in each.names}
    found = {name for each in kernels if each.is_int8 for name in each.names & known.keys()}
    lost = known.keys() - {name for each in kernels for name in each.names}
    for kernel in kernels:  # a convolution that took in a sign is named after the product alone
        if kernel.multiplies and not kernel.names & known.keys():
            alike = [each for each in sorted(lost) if _shape(known[each]) == kernel.shape]
            lost -= set(alike[:1])
            found |= set(alike[:1]) if kernel.is_int8 else set()
    counts = {name: _count(each) for name, each in known.items()}
    whole = sum(counts.values())
    half = sum(_scores(known[name]) for name in scores & known.keys())
    return (half + sum(counts[name] for name in found)) / whole if whole else 0.0


@frozen
class _Kernel:
    """A kernel of a compiled model, and the operations that it computes.

    Kernels that do not multiply have the name of an operation too if they only compute its
    dequantization. The snippet of an attention may multiply queries by keys in int8, and has the
    name of the whole; its weights are multiplied by the values in float.
    """

    names: frozenset[str]
    multiplies: bool
    is_int8: bool
    has_int8_scores: bool
    shape: tuple[int, ...]

    @classmethod
    def of(cls, node: Any) -> _Kernel:
        told = {key: value.astype(str) for key, value in node.get_rt_info().items()}
        names = told["originalLayersNames"].split(",")
        multiplies = told["layerType"] in KERNELS
        return cls(
            frozenset(each.partition("/Dequantization")[0] for each in names),
            multiplies,
            multiplies and told["primitiveType"].lower().endswith("_i8"),
            told["layerType"] == "Subgraph" and told["primitiveType"].endswith("_i8"),
            _shape(node),
        )


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.output(0).get_shape()) if node.get_output_size() else ()


def _scores(operation: Any) -> int:
    """Return the multiply-accumulates of queries by keys, of an attention."""
    if operation.get_type_name() != "ScaledDotProductAttention":
        return 0
    query, key = (list(each.get_shape()) for each in operation.inputs()[:2])
    return math.prod(query) * key[-2]


def _count(operation: Any) -> int:
    """Return the multiply-accumulates of an operation."""
    kind = operation.get_type_name()
    if kind not in {*CONVOLUTIONS, *OTHERS}:
        return 0
    shapes = [list(each.get_shape()) for each in operation.inputs()]
    if kind in CONVOLUTIONS:
        values = shapes[0] if kind.endswith("BackpropData") else operation.output(0).get_shape()
        return math.prod(values) * math.prod(shapes[1][CONVOLUTIONS[kind] :])
    if kind == "MatMul":
        inner = shapes[0][-2 if operation.get_attributes()["transpose_a"] else -1]
        return math.prod(operation.output(0).get_shape()) * inner
    if kind == "ScaledDotProductAttention":  # the keys, then the values
        *rows, width = shapes[0]
        return math.prod(rows) * shapes[1][-2] * (width + shapes[2][-1])
    batch, steps, _ = shapes[0]  # LSTM: weights of shape (directions, 4 * hidden, width)
    return batch * steps * (math.prod(shapes[4]) + math.prod(shapes[5]))
