"""Maxima and minima along a dimension, kept apart from the quantization of their results.

openvino 2025.4 fuses a quantization into the ReduceMax or ReduceMin that it reads, and then reduces
8-bit values, which truncates the inputs to integers. A Maximum of the result with itself prevents
the fusion and changes no value.
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
    """Insert a Maximum downstream of each such value; the program is rewritten in place."""
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
