"""Max pools, kept apart from downstream activations that are not monotone.

openvino 2025.4 moves an activation upstream of the max pool that it reads and fuses it into the
convolution, in float programs too. The result is the same only for a nondecreasing function: the
maximum of ``|x|`` is not ``|maximum of x|``. A Maximum with the least number between the two
prevents the fusion and changes no value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, operator_name
from qreg_openvino.reach import VIEWS

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

FALLING = {f"aten.{name}.default" for name in ("abs", "gelu", "silu", "hardswish")}
SLOPED = {f"aten.{name}.default" for name in ("leaky_relu", "elu")}
PASSED = (
    *("aten.permute.", "aten.transpose.", "aten.clone.", "aten.view.", "aten._unsafe_view."),
    *("quantized_decomposed.quantize", "quantized_decomposed.dequantize"),
)


def keep_apart_from_activations(program: ExportedProgram) -> None:
    """Insert a Maximum upstream of each such activation; the program is rewritten in place."""
    for node in list(program.graph.nodes):
        if _may_fall(node) and _is_of_a_maximum(node.all_input_nodes[0]):
            _separate(node, node.all_input_nodes[0])
    program.graph_module.recompile()


def _may_fall(node: Node) -> bool:
    """Whether an operator is an activation that is not monotone."""
    if node.op != "call_function":
        return False
    name, slope = operator_name(node.target), argument(node, 1)
    return name in FALLING or (name in SLOPED and isinstance(slope, (int, float)) and slope < 0)


def _is_of_a_maximum(value: Node) -> bool:
    while _passes(value):
        value = value.all_input_nodes[0]
    return "max_pool" in value.name or "max_pool" in str(value.target)


def _passes(value: Node) -> bool:
    name = operator_name(value.target) if value.op == "call_function" else ""
    if "getitem" in str(value.target):
        return True
    return name in VIEWS or name.startswith(PASSED)


def _separate(activation: Node, value: Node) -> None:
    import torch

    least = torch.finfo(value.meta["val"].dtype).min
    kept = call_before(activation, torch.ops.aten.clamp_min.default, value, least)
    activation.replace_input_with(value, kept)
