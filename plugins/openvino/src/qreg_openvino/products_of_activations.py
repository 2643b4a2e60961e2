"""Quantized values kept from products of two activations, so that their other readers run in int8.

In openvino 2026.4, a matmul asks for 8 bits upstream, through the operators of ``PASSED``. Where
one of the values that these read or give has no quantization, the quantizations upstream are left
as they are, and a convolution or linear layer that reads one of them runs in float. A Maximum of a
value with itself ends the search and changes no value. It is a part of the kernel that dequantizes
the value.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from qreg.graph.insertion import call_before
from qreg.graph.nodes import called
from qreg.graph.operators import ATTENTION, CAT, DEQUANTIZE, MATMUL, MAX_POOLS, MOVES, PADS, RELU

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

PRODUCTS = frozenset({*MATMUL, *ATTENTION})
PASSED = frozenset(
    {*CAT, *PADS, *RELU, "aten.stack.default"}
    | {f"aten.avg_pool{planes}d.default" for planes in (1, 2, 3)}
    | {"aten.upsample_bilinear2d.vec", "aten.upsample_bilinear2d.default"}
)
# On 8 bits as well, and searched without harm.
CARRYING = frozenset(
    {*MOVES, *MAX_POOLS, "aten._unsafe_view.default", "aten.select.int", "aten.expand.default"}
    | {"aten.split.Tensor", "aten.split_with_sizes.default", "aten.unbind.int"}
)


def keep_from_products(program: ExportedProgram) -> None:
    """Insert a Maximum ahead of what leads to a matmul; the program is rewritten in place."""
    import torch

    leading = _leading(program.graph)
    for value in _quantized(program.graph):
        for reader in list(value.users):
            if reader in leading and called(reader) in PASSED:
                kept = call_before(reader, torch.ops.aten.maximum.default, value, value)
                reader.replace_input_with(value, kept)
    program.graph_module.recompile()


def _quantized(graph: Graph) -> list[Node]:
    """Return the dequantized values, and those that only move or pool them."""
    found: dict[Node, None] = {}
    for node in graph.nodes:
        moved = _carries(node) and node.all_input_nodes[0] in found
        if called(node) == DEQUANTIZE or moved:
            found[node] = None
    return list(found)


def _leading(graph: Graph) -> set[Node]:
    """Return the nodes that a search from a product reaches, without quantizations on its way."""
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        passed = called(node) in PASSED or _carries(node)
        if called(node) in PRODUCTS or (passed and not found.isdisjoint(node.users)):
            found.add(node)
    return found


def _carries(node: Node) -> bool:
    return called(node) in CARRYING or node.target is operator.getitem
