"""Operators kept apart, so that openvino 2025.4 and 2026.4 do not fuse them with wrong results.

A Maximum between the two prevents the fusion and changes no value.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, called, calls, operator_name
from qreg.graph.operators import VIEWS

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

ALONG = {f"aten.{name}.default" for name in ("amax", "amin", "max", "min")}
WITH_PLACES = {f"aten.{name}.dim" for name in ("max", "min")}
REDUCED = ("aten.sum.dim_IntList", "aten.mean.dim")
ELEMENTWISE = {f"aten.{name}.Tensor" for name in ("add", "sub", "mul", "div")}
FALLING = {f"aten.{name}.default" for name in ("abs", "gelu", "silu", "hardswish")}
SLOPED = {f"aten.{name}.default" for name in ("leaky_relu", "elu")}
PASSED = (
    *("aten.permute.", "aten.transpose.", "aten.clone.", "aten.view.", "aten._unsafe_view."),
    *("quantized_decomposed.quantize", "quantized_decomposed.dequantize"),
)


def keep_reductions_apart(program: ExportedProgram) -> None:
    """Insert a Maximum of a reduced value with itself; the program is rewritten in place.

    The plugin fuses a quantization into the ReduceMax or ReduceMin that it reads, and then reduces
    8-bit values, which truncates the inputs to integers. It fuses ``x.mean(-1) * row`` too, and
    takes the row for one number a channel of ``x``.
    """
    import torch

    for value in list(program.graph.nodes):
        if _is_extreme(value) or _meets_row(value):
            kept = call_before(value.next, torch.ops.aten.maximum.default, value, value)
            value.replace_all_uses_with(kept, lambda user, kept=kept: user is not kept)
    program.graph_module.recompile()


def _is_extreme(node: Node) -> bool:
    if node.target is operator.getitem and node.args[1] == 0:
        return operator_name(node.all_input_nodes[0].target) in WITH_PLACES
    return called(node) in ALONG


def _meets_row(node: Node) -> bool:
    """Whether a sum or mean is added to, or multiplied by, a tensor of another shape."""
    if called(node) not in REDUCED or node.all_input_nodes[0].meta["val"].dim() < 3:
        return False
    readers = [user for user in node.users if called(user) in ELEMENTWISE]
    others = [each for user in readers for each in user.all_input_nodes if each is not node]
    return any(each.meta["val"].shape != node.meta["val"].shape for each in others)


def keep_apart_from_activations(program: ExportedProgram) -> None:
    """Insert a Maximum with the least number between a max pool and an activation that may fall.

    The plugin moves an activation upstream of the max pool that it reads and fuses it into the
    convolution, in float programs too. The result is the same only for a nondecreasing function:
    the maximum of ``|x|`` is not ``|maximum of x|``. The program is rewritten in place.
    """
    import torch

    for node in calls(program.graph, FALLING | SLOPED):
        value = node.all_input_nodes[0]
        if _may_fall(node) and _is_of_a_maximum(value):
            least = torch.finfo(value.meta["val"].dtype).min
            kept = call_before(node, torch.ops.aten.clamp_min.default, value, least)
            node.replace_input_with(value, kept)
    program.graph_module.recompile()


def _may_fall(node: Node) -> bool:
    """Whether an activation is not monotone: by its name, or by a negative slope."""
    slope = argument(node, 1)
    return called(node) in FALLING or (isinstance(slope, (int, float)) and slope < 0)


def _is_of_a_maximum(value: Node) -> bool:
    while _passes(value):
        value = value.all_input_nodes[0]
    return "max_pool" in value.name or "max_pool" in str(value.target)


def _passes(value: Node) -> bool:
    name = called(value)
    return value.target is operator.getitem or name in VIEWS or name.startswith(PASSED)
