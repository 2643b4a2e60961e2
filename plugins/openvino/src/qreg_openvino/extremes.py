"""The largest and the least values along a dimension, kept apart from what quantizes them.

openvino 2025.4 computes a quantization inside of the ReduceMax or ReduceMin that it reads, and then
reduces codes of 8 bits, in which the values are cut to integers. A Maximum of the result with
itself prevents it, and changes no value.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from qreg.graph.insertion import call_before
from qreg.graph.nodes import operator_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

ALONG = {f"aten.{name}.default" for name in ("amax", "amin", "max", "min")}
WITH_PLACES = {f"aten.{name}.dim" for name in ("max", "min")}


def keep_apart_from_quantization(program: ExportedProgram) -> None:
    """Rewrite a program in place: a Maximum behind each such value."""
    for node in list(program.graph.nodes):
        if _is_extreme(node):
            _separate(node)
    program.graph_module.recompile()


def _is_extreme(node: Node) -> bool:
    if node.op != "call_function":
        return False
    if node.target is operator.getitem and node.args[1] == 0:
        return operator_name(node.all_input_nodes[0].target) in WITH_PLACES
    return operator_name(node.target) in ALONG


def _separate(value: Node) -> None:
    import torch

    kept = call_before(value.next, torch.ops.aten.maximum.default, value, value)
    value.replace_all_uses_with(kept, lambda user: user is not kept)
