"""Operators kept out of the snippets of openvino that are wrong, by more dimensions.

A snippet is one kernel for several operators (openvino 2025.4 and 2026.4). Matrix products in two
dimensions with only elementwise functions between them are one; it is wrong for many int8 layers,
for example if all elements of a bias are equal, and fails to compile for some layers of width 1.
Attention is another one; it is wrong for as many heads as rows, if it is computed on. No snippet
has products in three dimensions with a constant, or transposes in five. They run in the same
kernels as without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qreg.graph.walks import reachable

PRODUCT, TRANSPOSE, SLOPED, SOFTMAX = "MatMul", "Transpose", "PRelu", "Softmax"
ATTENTION = frozenset({PRODUCT, "ScaledDotProductAttention"})
DIMENSIONS = 5  # of a transpose that no snippet has
# Their results do not depend on the number of dimensions.
ELEMENTWISE = frozenset(
    {
        *("FakeQuantize", "Convert", "Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum"),
        *("Relu", "Clamp", "Gelu", "Swish", "Sigmoid", "Tanh", "HSwish", "HSigmoid", "Elu"),
        *("Abs", "Negative", "Exp", "Sqrt", "Erf", "Mish", "SoftPlus", "HardSigmoid", "Power"),
    }
)


def keep_layers_apart(model: Any) -> None:
    """Give products that are followed by another one a third dimension, up to that one.

    What may become elementwise in the compiled model ends the third dimension too. The model is
    rewritten in place.
    """
    from openvino import opset13

    layers = {each.get_friendly_name(): each for each in filter(_is_layer, model.get_ordered_ops())}
    ends = {name: [end] for name, each in layers.items() if (end := _end(each)) is not None}
    for (end,) in list(ends.values()):
        # Without an operation between two products, openvino would drop the dimension again.
        node, before = end.get_node(), end.get_source_output().get_node()
        if node.get_type_name() == before.get_type_name() == PRODUCT:
            ends.setdefault(node.get_friendly_name(), list(node.output(0).get_target_inputs()))
    for name in ends:
        _insert(layers[name].input(0), opset13.unsqueeze)
    model.validate_nodes_and_infer_types()
    for port in (port for ports in ends.values() for port in ports):
        _insert(port, opset13.squeeze)
    model.validate_nodes_and_infer_types()


def keep_transposes_apart(model: Any) -> None:
    """Transpose in five dimensions next to attention, where the shape stays the same.

    The plugin writes the output of an attention to the memory of its query, if their shapes are
    equal, also if only one of them is transposed. The model is rewritten in place.
    """
    from openvino import opset13

    for operation in list(model.get_ordered_ops()):
        if operation.get_type_name() != TRANSPOSE or not _keeps_shape(operation):
            continue
        if _depends_on_inputs(operation) and _meets_product(operation):
            value, order = (each for each in operation.input_values())
            rank = len(_shape(value))
            added = list(range(DIMENSIONS - rank))
            raised = [*added, *(place + len(added) for place in order.get_node().get_vector())]
            wide = opset13.transpose(opset13.unsqueeze(value, added), raised)
            made = opset13.squeeze(wide, added)
            wide.set_friendly_name(operation.get_friendly_name())
            for port in operation.output(0).get_target_inputs():
                port.replace_source_output(made.output(0))
    model.validate_nodes_and_infer_types()


def _insert(port: Any, function: Any) -> None:
    port.replace_source_output(function(port.get_source_output(), 0).output(0))


def _end(product: Any) -> Any | None:
    """Return the input at which the elementwise functions of a product end, or None.

    None if no other product can follow in one kernel: if a value has several readers, or the last
    one changes the shape.
    """
    (value,) = product.outputs()
    while len(readers := value.get_target_inputs()) == 1:
        (reader,) = readers
        node = reader.get_node()
        if node.get_type_name() == PRODUCT:
            return reader if _is_layer(node) and reader.get_index() == 0 else None
        if node.get_output_size() != 1 or _shape(node.output(0)) != _shape(value):
            return None
        if not _is_elementwise(node):
            return reader if node.get_type_name() != "Result" else None
        (value,) = node.outputs()
    return None


def _is_layer(node: Any) -> bool:
    """Whether an operation is a product of a matrix and a constant."""
    if node.get_type_name() != PRODUCT or len(_shape(node.input_value(0))) != 2:
        return False
    return not _depends_on_inputs(node.input_value(1).get_node())


def _depends_on_inputs(node: Any) -> bool:
    """Whether a value is computed from the model's inputs; a weight may be transposed too."""
    return any(each.get_type_name() == "Parameter" for each in reachable([node], _sources))


def _keeps_shape(transpose: Any) -> bool:
    shape = _shape(transpose.input_value(0))
    return len(shape) < DIMENSIONS and bool(shape == _shape(transpose.output(0)))


def _meets_product(transpose: Any) -> bool:
    """Whether only elementwise functions are between a transpose and an attention."""
    return any(
        node.get_type_name() in ATTENTION
        for way in (_sources, _readers)
        for node in reachable(way(transpose), _past_elementwise(way))
    )


def _past_elementwise(way: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    return lambda node: way(node) if _is_elementwise(node) else []


def _is_elementwise(node: Any) -> bool:
    """Whether an operation computes the same with a dimension more, once it counts from the last.

    A softmax along the last dimension does.
    """
    if node.get_type_name() == SOFTMAX:
        return _counts_from_last(node)
    if node.get_type_name() == SLOPED:
        return all(size == 1 for size in _shape(node.input_value(1)))
    return node.get_type_name() in ELEMENTWISE


def _counts_from_last(softmax: Any) -> bool:
    """Let a softmax along the last dimension count it from the last; return whether it is one."""
    last = softmax.get_attributes()["axis"] in (-1, len(_shape(softmax.output(0))) - 1)
    if last:
        softmax.set_attribute("axis", -1)
    return last


def _sources(node: Any) -> list[Any]:
    return [value.get_node() for value in node.input_values()]


def _readers(node: Any) -> list[Any]:
    return [port.get_node() for value in node.outputs() for port in value.get_target_inputs()]


def _shape(value: Any) -> Any:
    return value.get_partial_shape()
