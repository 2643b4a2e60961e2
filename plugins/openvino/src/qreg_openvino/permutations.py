"""Pairs of inverse permutations around elementwise functions.

openvino 2025.4 fuses such functions into an int8 convolution upstream of the first permutation,
drops one permutation too few, and returns values in the wrong places. Without both permutations,
its output matches the program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qreg.graph.nodes import argument, operator_name
from qreg_openvino.reach import COPIES

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


def drop_undone_permutations(program: ExportedProgram) -> None:
    """Drop both permutations of a value that is permuted, computed on and permuted back.

    The program is rewritten in place. The nodes between the permutations must have no other reader.
    """
    for node in list(program.graph.nodes):
        order = _order(node)
        if order is not None:
            _undo(node, order)
    program.graph_module.recompile()


def _undo(last: Node, order: list[int]) -> None:
    between: list[Node] = []
    value = last.all_input_nodes[0]
    while (entering := _computed_on(value)) is not None:
        between.append(value)
        value = entering
    first = _order(value)
    inverse = first is not None and [first[place] for place in order] == list(range(len(order)))
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
    if torch.Tag.pointwise not in tags and operator_name(node.target) not in COPIES:
        return None
    tensors = [each for each in node.all_input_nodes if not _is_number(each)]
    return tensors[0] if len(tensors) == 1 else None


def _is_number(node: Node) -> bool:
    """Whether a value is one number: a tensor of one element, or a symbolic size."""
    return all(size == 1 for size in getattr(node.meta["val"], "shape", ()))


def _order(node: Node) -> list[int] | None:
    """Return the order of dimensions of a permutation, or None for another node."""
    if node.op != "call_function":
        return None
    name = operator_name(node.target)
    if name not in {"aten.permute.default", "aten.transpose.int"}:
        return None
    rank = len(node.meta["val"].shape)
    if name == "aten.permute.default":
        return [place % rank for place in cast("list[int]", argument(node, 1))]
    one, other = (cast("int", argument(node, place)) % rank for place in (1, 2))
    order = list(range(rank))
    order[one], order[other] = other, one
    return order
