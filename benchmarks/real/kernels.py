"""The share of an OpenVINO model's multiply-accumulates that its compiled kernels do in int8.

The count reads the model and its runtime model only, so it is the same for all quantizers.
"""

from __future__ import annotations

import math
from typing import Any

# The dimensions ahead of those of the weight that one output meets, or one input if transposed.
CONVOLUTIONS = {"Convolution": 1, "GroupConvolution": 2, "ConvolutionBackpropData": 1}
KERNELS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
OTHERS = ("MatMul", "ScaledDotProductAttention", "LSTMSequence")


def int8_share(model: Any, compiled: Any) -> float:
    """Return the share in int8 of a model with static shapes; 0 without multiply-accumulates."""
    in_int8 = _names_in_int8(compiled)
    counts = {each.get_friendly_name(): _count(each) for each in model.get_ops()}
    whole = sum(counts.values())
    return sum(counts[name] for name in in_int8 & counts.keys()) / whole if whole else 0.0


def _names_in_int8(compiled: Any) -> set[str]:
    """Return the names of the operations that compute kernels multiply in 8-bit integers.

    Other kernels have such a name too if they only compute the operation's dequantization.
    """
    found: set[str] = set()
    for kernel in compiled.get_runtime_model().get_ordered_ops():
        told = {key: value.astype(str) for key, value in kernel.get_rt_info().items()}
        if told["layerType"] in KERNELS and told["primitiveType"].lower().endswith("_i8"):
            names = told["originalLayersNames"].split(",")
            found.update(each.partition("/Dequantization")[0] for each in names)
    return found


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
