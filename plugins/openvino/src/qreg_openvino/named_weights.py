"""Find the operators of a model again by the constants that are their weights."""

from __future__ import annotations

from typing import Any

from qreg.backends.naming import origin_in

PRODUCTS = ("MatMul", "Convolution", "GroupConvolution")
UNPACKING = ("Convert", "Subtract", "Multiply", "Reshape", "Transpose")


def named_weights(model: Any) -> dict[str, str]:
    """Return the operators of an ``openvino.Model`` by the names of their weights.

    Constants that are weights of several operators are left out.
    """
    found: dict[str, set[str]] = {}
    for operation in model.get_ordered_ops():
        origin = origin_in(operation.get_friendly_name())
        if origin and operation.get_type_name() in PRODUCTS:
            found.setdefault(_unpacked(operation.input_value(1).get_node()), set()).add(origin)
    return {name: origins.pop() for name, origins in found.items() if len(origins) == 1}


def _unpacked(operation: Any) -> str:
    """Return the name of the constant that a weight is unpacked from, or of what computes it."""
    while operation.get_type_name() in UNPACKING:
        operation = operation.input_value(0).get_node()
    name: str = operation.get_friendly_name()
    return name
