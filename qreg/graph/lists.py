"""Expand lists of sizes: torch accepts one number for all dimensions, backends do not."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

STRIDE = 3  # its position among the arguments of a convolution


def fill_lists(graph: Graph) -> bool:
    """Expand lists of one number where an operator has one for each dimension, in place.

    ``stride=[2]`` of a ``conv2d`` becomes ``[2, 2]``. Return whether there were any.
    """
    operators = [each for each in graph.nodes if isinstance(each.target, torch._ops.OpOverload)]
    filled = [_fill(each) for each in operators]
    return any(filled)


def _fill(node: Node) -> bool:
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    filled = tuple(map(_full, arguments, (*node.args, *_missing_stride(node))))
    named = {
        each.name: _full(each, node.kwargs[each.name])
        for each in arguments
        if each.name in node.kwargs
    }
    changed = (filled, named) != (node.args, dict(node.kwargs))
    if changed:
        node.args, node.kwargs = filled, named
    return changed


def _missing_stride(node: Node) -> tuple[Any, ...]:
    """The bias and stride that a convolution with a word for its padding leaves out.

    torch 2.13 decomposes such a call with one number for all dimensions.
    """
    target: Any = node.target
    if target._overloadname != "padding" or node.kwargs:
        return ()
    left_out = target._schema.arguments[len(node.args) : STRIDE + 1]
    return tuple(each.default_value for each in left_out)


def _full(argument: Any, value: Any) -> Any:
    several = argument.N is not None and argument.N > 1
    alone = isinstance(value, (list, tuple)) and len(value) == 1
    return list(value) * argument.N if several and alone else value
