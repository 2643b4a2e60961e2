"""Weights with a scale for each group, as the CPU plugin keeps them packed.

OpenVINO's frontend converts none of torchao's operators for groups. The plugin unpacks a constant
in its kernel if the model converts, multiplies and reshapes it, in this order (openvino 2025.4 and
2026.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.insertion import call_before
from qreg.graph.nodes import called, calls, is_node, tensor_at
from qreg.graph.rewrites import new_constant

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

QUANTIZE, DEQUANTIZE = "torchao.quantize_affine.default", "torchao.dequantize_affine.default"
SCALE = 2  # its position in both calls
UNPACKED = "weight_in_groups"  # begins the name of the conversion of a packed weight


def operators_for_groups(program: ExportedProgram) -> frozenset[Any]:
    """Return torchao's operators for groups in a program; none if one has a value of an input."""
    found = calls(program.graph, (QUANTIZE, DEQUANTIZE))
    inputs = set(program.graph_signature.user_inputs)
    leaves = {each.name for node in found for each in node.all_input_nodes if each not in found}
    constants = {each.name for each in program.graph.nodes if each.op == "placeholder"} - inputs
    return frozenset(node.target for node in found) if leaves <= constants else frozenset()


def spell_out_groups(model: GraphModule) -> None:
    """Write the dequantization of constants in groups as arithmetic; the graph is rewritten."""
    found = calls(model.graph, (DEQUANTIZE,))
    for node in found:
        _spell_out(model, node)
    if found:
        model.graph.eliminate_dead_code()
        model.recompile()


def _spell_out(model: GraphModule, node: Node) -> None:
    """Replace the dequantization of a weight of shape (rows, columns).

    With one group in each row, values in three dimensions would be unpacked when a model is loaded.
    """
    import torch

    aten = torch.ops.aten
    scale: Any = node.args[SCALE]
    codes, scales = _codes(node), tensor_at(scale).detach()
    rows, groups = scales.shape
    shape = (rows, groups, -1) if groups > 1 else (rows, -1)
    stored = new_constant(model, node, "_codes_", codes.reshape(shape))
    factors = new_constant(model, node, "_scales_", scales.reshape(shape))
    unpacked = stored.meta["val"].to(torch.float32)
    values = call_before(node, aten._to_copy.default, stored, value=unpacked, name=UNPACKED)
    values.kwargs = {"dtype": torch.float32}
    weight = call_before(node, aten.mul.Tensor, values, factors)
    if groups > 1:
        weight = call_before(node, aten.view.default, weight, list(codes.shape))
    node.replace_all_uses_with(weight)


def _codes(dequantize: Node) -> Tensor:
    """Return the quantized values (int8, shape (rows, columns)) that a call dequantizes."""
    from qreg.graph.by_rows import evaluated

    source: Any = dequantize.args[0]
    if called(source) != QUANTIZE:
        return tensor_at(source)
    given = tuple(tensor_at(each) if is_node(each) else each for each in source.args)
    codes: Tensor = evaluated(source.target, given, source.kwargs)
    return codes
