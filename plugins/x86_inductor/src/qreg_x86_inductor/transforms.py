"""Rewrites of a graph ahead of its annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import clamp_as_hardtanh
from qreg.graph.equivalents import double_by_factor, spell_out_alpha
from qreg.graph.nodes import called, calls
from qreg.graph.operators import ADD, CONV, LINEAR
from qreg.graph.rewrites import copy_constant, rewritten, simplified

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node

    from qreg import Mode

WEIGHTED = frozenset({*CONV, *LINEAR})


def transform(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Rewrite scalars as tensors, and copy the weight for each further call of a shared layer.

    In training, a shared weight stays shared.
    """
    spell_out_alphas(model.graph)
    model = rewritten(simplified(model, modes), _clamp_of_a_convolution)
    if "qat" not in modes:
        separate_weights(model)
    return model


def _clamp_of_a_convolution(node: Node) -> bool:
    """Rewrite the clamp of a convolution as a hardtanh, which torchao fuses."""
    clamps = called(node) == "aten.clamp.default" and called(node.all_input_nodes[0]) in CONV
    return clamps and clamp_as_hardtanh(node)


def spell_out_alphas(graph: Graph) -> None:
    """Rewrite ``add(a, b, alpha=2)``: torch 2.13 ignores ``alpha`` when it fuses with a linear."""
    for add in calls(graph, ADD):
        spell_out_alpha(add)


def spell_out_doubles(graph: Graph) -> None:
    """Rewrite ``add(a, a)``: torchao 0.18.0 fails on a sum of a convolution with itself."""
    for add in calls(graph, ADD):
        double_by_factor(add)


def separate_weights(model: GraphModule) -> None:
    """Copy shared weights, so that each linear or convolution has a separate weight.

    Inductor packs a weight into a kernel only if the weight has one user; otherwise it computes in
    float. The copies are as large as the weights, and so are the packed weights of the kernels.
    """
    taken: set[str] = set()
    for node in calls(model.graph, WEIGHTED):
        weight: Any = node.args[1]
        if weight.op == "get_attr":
            if str(weight.target) in taken:
                copy_constant(model, node, 1)
            taken.add(str(weight.target))
    model.recompile()
