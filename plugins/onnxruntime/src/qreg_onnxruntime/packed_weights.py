"""Matrix products with 8-bit or 4-bit weights and float activations, as ``MatMulNBits``.

It is an operator of ONNX Runtime (domain ``com.microsoft``). From a DequantizeLinear of a weight,
the runtime (onnxruntime 1.32) would compute the float weight when it loads the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
BLOCK = 128  # columns that share a scale in the program, for a weight with a scale for each row
# The runtime quantizes activations to int8, by blocks: 2.5 times as fast as in float for one row.
INT8_ACTIVATIONS = 4
DEQUANTIZE = "DequantizeLinear"


@frozen(eq=False)
class Weight:
    """Quantized values (int8, shape (rows, columns)) and scales (rows,) or (rows, groups)."""

    codes: Any
    scales: Any
    group: int | None

    @property
    def bits(self) -> int:
        return 4 if self.codes.min() >= -8 and self.codes.max() <= 7 else 8

    @property
    def block(self) -> int:
        return self.group or BLOCK

    def packed(self) -> Any:
        """Return the values without sign (uint8, shape (rows, blocks, bytes of a block)).

        Values of 4 bits begin with the low half of a byte. The last block is filled up with zeros.
        """
        import numpy

        rows, columns = self.codes.shape
        missing = -columns % self.block
        codes = numpy.pad(self.codes.astype(numpy.int16), ((0, 0), (0, missing)))
        values = (codes + 2 ** (self.bits - 1)).astype(numpy.uint8)
        if self.bits == 4:
            values = values[:, 0::2] | (values[:, 1::2] << 4)
        return values.reshape(rows, -1, self.block * self.bits // 8)

    def scale_of_each_block(self) -> Any:
        """Return the scales (float32, shape (rows * blocks,))."""
        blocks = -(-self.codes.shape[1] // self.block)
        return (self.scales if self.group else self.scales.repeat(blocks)).reshape(-1)


def with_packed_weights(model: Any) -> Any:
    """Rewrite such products; the model is rewritten in place."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    constants = {each.name: each for each in graph.initializer}
    packed: set[str] = set()
    for node in graph.node:
        dequantize = _dequantize_of_weight(node, producers)
        if dequantize is None:
            continue
        (name,), weight = dequantize.output, _weight(dequantize, constants)
        if name not in packed:
            graph.initializer.extend(_constants(name, weight))
            packed.add(name)
        node.CopyFrom(_product(node, name, weight))
    if packed:
        _drop_unread(graph)
        model.opset_import.add(domain=DOMAIN, version=1)
    return model


def _dequantize_of_weight(node: Any, producers: Mapping[str, Any]) -> Any | None:
    """Return what dequantizes the weight of a product of a float activation; None for others.

    torch.onnx exports a linear as a Gemm, or as a MatMul by the transposed weight. If the
    activation is quantized too, the runtime has an integer kernel, except for weights in groups.
    """
    if node.op_type not in ("Gemm", "MatMul"):
        return None
    entering, factor = (producers.get(name) for name in node.input[:2])
    if node.op_type == "MatMul":
        transposed = factor is not None and factor.op_type == "Transpose"
        factor = producers.get(factor.input[0]) if factor is not None and transposed else None
    if factor is None or factor.op_type != DEQUANTIZE:
        return None
    quantized = entering is not None and entering.op_type == DEQUANTIZE
    return None if quantized and _group(factor) is None else factor


def _group(dequantize: Any) -> int | None:
    """Return how many columns share a scale; None for a scale for each row."""
    return next((each.i for each in dequantize.attribute if each.name == "block_size"), None)


def _weight(dequantize: Any, constants: Mapping[str, Any]) -> Weight:
    from onnx import numpy_helper

    codes, scales = (numpy_helper.to_array(constants[name]) for name in dequantize.input[:2])
    return Weight(codes, scales, _group(dequantize))


def _constants(name: str, weight: Weight) -> list[Any]:
    from onnx import numpy_helper

    return [
        numpy_helper.from_array(weight.packed(), f"{name}_packed"),
        numpy_helper.from_array(weight.scale_of_each_block(), f"{name}_scales"),
    ]


def _product(node: Any, name: str, weight: Weight) -> Any:
    """Return the product by a packed weight, with the name and the outputs of a node."""
    from onnx import helper

    bias = ["", "", node.input[2]] if len(node.input) > 2 else []
    rows, columns = weight.codes.shape
    return helper.make_node(
        OPERATOR,
        [node.input[0], f"{name}_packed", f"{name}_scales", *bias],
        list(node.output),
        node.name,
        domain=DOMAIN,
        K=columns,
        N=rows,
        bits=weight.bits,
        block_size=weight.block,
        accuracy_level=INT8_ACTIVATIONS,
    )


def _drop_unread(graph: Any) -> None:
    """Remove the nodes and constants that nothing reads any more."""
    kept = {each.name for each in graph.output}
    for node in reversed(list(graph.node)):
        if kept.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            kept.update(node.input)
    for constant in list(graph.initializer):
        if constant.name not in kept:
            graph.initializer.remove(constant)
