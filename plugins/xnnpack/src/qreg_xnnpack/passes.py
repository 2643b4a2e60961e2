"""What a converted program needs before executorch 1.4.1 lowers it.

The partitioner takes every operator between a dequantize and a quantize for an int8 one. That is
wrong for operators that only move or clip values: the delegate runs them on one set of parameters,
so with different ones before and behind, the program does not load or gives wrong numbers. This
happens to whatever was left in float between two quantized operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.patterns import operator_name, sole_user
from qreg_xnnpack.decompositions import in_planes
from qreg_xnnpack.transforms import spell_out_stride

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"

ON_ONE_SET_OF_PARAMETERS = frozenset(
    {
        "aten.clamp.default",
        "aten.flatten.using_ints",
        "aten.hardtanh.default",
        "aten.max_pool2d.default",
        "aten.permute.default",
        "aten.relu.default",
        "aten.relu6.default",
        "aten.reshape.default",
        "aten.slice.Tensor",
        "aten.transpose.int",
        "aten.unsqueeze.default",
        "aten.view.default",
    }
)


def ready(program: ExportedProgram) -> ExportedProgram:
    """The program with all of this done; changes it in place, but for convolutions in 3d."""
    for node in list(program.graph.nodes):
        name = operator_name(node.target) if node.op == "call_function" else ""
        if name == "aten.max_pool2d.default":
            spell_out_stride(node)
        if name in ON_ONE_SET_OF_PARAMETERS:
            _requantize_behind(node)
        if name == "aten.cat.default":
            _requantize_inputs(node)
    program.graph_module.recompile()
    if _has(program.graph_module, "aten.conv3d.default"):
        program = program.run_decompositions(in_planes())
    return program


def _has(graph_module: GraphModule, operator: str) -> bool:
    return any(str(node.target) == operator for node in graph_module.graph.nodes)


def _requantize_behind(node: Node) -> None:
    """Gives the output the parameters of the input first, and then those that it had.

    What is moved or clipped by relu lies on the grid of the input, so this changes no value.
    """
    source, user = node.args[0], sole_user(node)
    if user is None or not (_is(source, DEQUANTIZE) and _is(user, QUANTIZE)):
        return
    if _parameters(source) != _parameters(user):
        user.replace_input_with(node, _through(node, source, before=user))


def _requantize_inputs(node: Node) -> None:
    """Gives the inputs of a cat the parameters that its output has."""
    user = sole_user(node)
    inputs = node.all_input_nodes
    if user is None or not _is(user, QUANTIZE) or not all(_is(each, DEQUANTIZE) for each in inputs):
        return
    for source in inputs:
        if _parameters(source) != _parameters(user):
            node.replace_input_with(source, _through(source, user, before=node))


def _is(node: Any, operator: str) -> bool:
    return str(getattr(node, "target", "")) == operator


def _parameters(node: Any) -> tuple[Any, ...]:
    return tuple(node.args[1:])


def _through(value: Node, parameters_of: Any, *, before: Node) -> Node:
    """``value``, quantized and dequantized with the parameters of another node."""
    import torch

    operators = torch.ops.quantized_decomposed
    graph, parameters = value.graph, _parameters(parameters_of)
    with graph.inserting_before(before):
        codes = graph.call_function(operators.quantize_per_tensor.default, (value, *parameters))
        result = graph.call_function(operators.dequantize_per_tensor.default, (codes, *parameters))
    codes.meta["val"] = value.meta["val"].to(parameters[-1])
    result.meta["val"] = value.meta["val"]
    return result
