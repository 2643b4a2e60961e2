"""Programs that take and give integers: their conversions in arithmetic, and their qparams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qreg.graph.boundary import Boundary, QParams, output_tensors, placeholders

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

INFO = ["qreg", "quantized_io"]


def spell_out_quantized_io(program: ExportedProgram) -> None:
    """Write dequantizations of inputs and quantizations of outputs as arithmetic.

    The frontend of openvino 2025.4 converts a quantization followed by a dequantization to one
    FakeQuantize, and drops either of them if it is alone.
    """
    boundary = Boundary.of_program(program)
    wanted = program.graph_signature.user_inputs
    inputs = [node for node in placeholders(program.graph) if node.name in wanted]
    for number, qparams in boundary.inputs.items():
        for user in list(inputs[number].users):
            _dequantize(user, qparams)
    outputs = output_tensors(program.graph)
    for node in dict.fromkeys(outputs[number] for number in boundary.outputs):
        _quantize(node, QParams.of(node))
    program.graph_module.recompile()


def describe_quantized_io(model: Any, boundary: Boundary) -> None:
    """Write the qparams of inputs and outputs to the runtime information of a model, as JSON."""
    if not boundary.present:
        return
    sides = (model.inputs, model.outputs)
    inputs, outputs = ([port.get_any_name() for port in side] for side in sides)
    model.set_rt_info(json.dumps(boundary.table(inputs, outputs)), INFO)


def _dequantize(node: Node, qparams: QParams) -> None:
    """Insert a dequantization as arithmetic, and a quantization, ahead of a dequantization.

    The quantization changes no value. OpenVINO needs the pair to run the operators in int8.
    """
    import torch

    aten, decomposed = torch.ops.aten, torch.ops.quantized_decomposed
    with node.graph.inserting_before(node):
        found = _call(node.graph, aten._to_copy.default, node.args[0], dtype=torch.float32)
        found = _call(node.graph, aten.sub.Tensor, found, qparams.zero_point)
        found = _call(node.graph, aten.mul.Tensor, found, qparams.scale)
        found = _call(node.graph, decomposed.quantize_per_tensor.default, found, *node.args[1:])
    node.update_arg(0, found)


def _quantize(node: Node, qparams: QParams) -> None:
    """Dequantize an output after its quantization, and compute its integers from the result.

    The computed values are close to integers, and ``floor(x + 0.5)`` rounds them: openvino 2025.4
    has no conversion of ``aten.round``.
    """
    import torch

    aten, decomposed = torch.ops.aten, torch.ops.quantized_decomposed
    end = node.graph.output_node()
    with node.graph.inserting_before(end):
        found = _call(node.graph, decomposed.dequantize_per_tensor.default, node, *node.args[1:])
        found = _call(node.graph, aten.mul.Tensor, found, 1 / qparams.scale)
        found = _call(node.graph, aten.add.Tensor, found, qparams.zero_point + 0.5)
        found = _call(node.graph, aten.floor.default, found)
        found = _call(node.graph, aten._to_copy.default, found, dtype=getattr(torch, qparams.dtype))
    end.replace_input_with(node, found)


def _call(graph: Graph, target: Any, *args: Any, **named: Any) -> Node:
    """Insert a call of an operator on a node."""
    made = graph.call_function(target, args, named)
    value = args[0].meta["val"]
    with value.fake_mode:
        made.meta["val"] = target(value, *args[1:], **named)
    return made
