"""The constants of weights in groups, in as few bits as they need.

Values of 4 bits have the type i4. With u4 and a zero point, the plugin (openvino 2026.4) would
compute with float activations.
"""

from __future__ import annotations

from typing import Any

from qreg_openvino.weights_in_groups import UNPACKED

LARGEST = 65504  # of float16


def pack(model: Any) -> None:
    """Store values in 4 bits and scales in 16, where that changes none of them.

    The shape that weights are reshaped to becomes constant: the frontend computes it from the shape
    of an input. The ``openvino.Model`` is rewritten in place.
    """
    for operation in model.get_ordered_ops():
        named = operation.get_friendly_name().startswith(UNPACKED)
        if named and operation.get_type_name() == "Convert":  # inputs may have any name
            _pack_weight(operation)
    model.validate_nodes_and_infer_types()


def _pack_weight(unpacked: Any) -> None:
    from openvino import opset13

    (product,) = _readers(unpacked)
    codes, scales = (_value(each.input_value(at)) for at, each in enumerate((unpacked, product)))
    if codes.min() >= -8 and codes.max() <= 7:
        unpacked.input(0).replace_source_output(_in_4_bits(codes))
    if (halves := _in_16_bits(scales)) is not None:
        product.input(1).replace_source_output(halves)
    if codes.ndim == 3:
        (reshape,) = _readers(product)
        shape = opset13.constant([len(codes), codes[0].size])
        reshape.input(1).replace_source_output(shape.output(0))


def _in_4_bits(codes: Any) -> Any:
    """Return a constant of the type i4; the first of two values is in the low half of a byte."""
    import openvino

    flat = codes.reshape(-1)
    tensor = openvino.Tensor(openvino.Type.i4, openvino.Shape(codes.shape))
    tensor.data.reshape(-1)[:] = (flat[0::2] & 15) | (flat[1::2] << 4)
    return openvino.op.Constant(tensor, shared_memory=False).output(0)


def _in_16_bits(scales: Any) -> Any | None:
    """Return a float16 constant converted to float32, None if a scale would change."""
    from openvino import opset13

    halves = scales.clip(max=LARGEST).astype("float16")
    if (halves != scales).any():
        return None
    return opset13.convert(opset13.constant(halves), "f32").output(0)


def _readers(operation: Any) -> list[Any]:
    return [port.get_node() for port in operation.output(0).get_target_inputs()]


def _value(output: Any) -> Any:
    return output.get_node().data
