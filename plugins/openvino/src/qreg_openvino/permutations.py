"""Pairs of inverse permutations around elementwise functions.

openvino 2025.4 and 2026.4 fuse such functions into an int8 convolution upstream of the first
permutation, drop one permutation too few, and return values in the wrong places. Without both
permutations, the output matches the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.nodes import called, calls, order_of
from qreg.graph.operators import COPIES, PERMUTES

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


def drop_undone_permutations(program: ExportedProgram) -> None:
    """Drop both permutations of a value that is permuted, computed on and permuted back.

    The program is rewritten in place. The nodes between the permutations must have no other reader.
    """
    for node in calls(program.graph, PERMUTES):
        _undo(node)
    program.graph_module.recompile()


def _undo(last: Node) -> None:
    between: list[Node] = []
    value = last.all_input_nodes[0]
    while (entering := _computed_on(value)) is not None:
        between.append(value)
        value = entering
    first, order = order_of(value), order_of(last)
    inverse = first and order and [first[place] for place in order] == sorted(order)
    if not (between and inverse and all(len(each.users) == 1 for each in (value, *between))):
        return
    last.replace_all_uses_with(between[0])
    between[-1].replace_input_with(value, value.all_input_nodes[0])
    for each in between:
        each.meta["val"] = each.meta["val"].permute(order)
    last.graph.erase_node(last)
    last.graph.erase_node(value)


def _computed_on(node: Node) -> Node | None:
    """Return the tensor that a node computes on elementwise, or None.

    All other operands of the node are single numbers.
    """
    import torch

    if node.op != "call_function":
        return None
    tags = getattr(node.target, "tags", ())
    if torch.Tag.pointwise not in tags and called(node) not in COPIES:
        return None
    tensors = [each for each in node.all_input_nodes if not _is_number(each)]
    return tensors[0] if len(tensors) == 1 else None


def _is_number(node: Node) -> bool:
    """Whether a value is one number: a tensor of one element, or a symbolic size."""
    return all(size == 1 for size in getattr(node.meta["val"], "shape", ()))
