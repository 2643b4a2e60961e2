"""Rewrites of a graph ahead of its annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import clamp_as_hardtanh
from qreg.graph.insertion import call_before
from qreg.graph.nodes import is_constant, operator_name, tensor_at
from qreg.graph.operators import ADD, CONV, LINEAR
from qreg.graph.rewrites import new_constant, rewritten, simplified

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node

    from qreg import Mode

WEIGHTED = frozenset({*CONV, *LINEAR})


def transform(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Rewrite scalars as tensors, and copy the weight for each further call of a shared layer.

    In training, a shared weight stays shared.
    """
    spell_out_alpha(model.graph)
    model = rewritten(simplified(model, modes), _clamp_of_a_convolution)
    if "qat" not in modes:
        separate_weights(model)
    return model


def _clamp_of_a_convolution(node: Node) -> bool:
    """Rewrite the clamp of a convolution as a hardtanh, which torchao fuses."""
    if operator_name(node.target) != "aten.clamp.default":
        return False
    before = node.all_input_nodes[0]
    return operator_name(before.target) in CONV and clamp_as_hardtanh(node)


def spell_out_alpha(graph: Graph) -> None:
    """Rewrite ``add(a, b, alpha=2)`` as ``a + b * 2``.

    torch 2.13 ignores ``alpha`` when it fuses the addition into a quantized linear.
    """
    for node in list(graph.nodes):
        if node.op == "call_function" and operator_name(node.target) in ADD:
            _spell_out_alpha(node)


def _spell_out_alpha(node: Node) -> None:
    import torch

    alpha: Any = node.kwargs.get("alpha", 1)
    one, other = node.args[:2]
    if alpha == 1 or not isinstance(other, torch.fx.Node):
        return
    scaled = call_before(node, torch.ops.aten.mul.Tensor, other, alpha, inherit=True)
    node.args, node.kwargs = (one, scaled), {}


def separate_weights(model: GraphModule) -> None:
    """Copy shared weights, so that each linear or convolution has a separate weight.

    Inductor packs a weight into a kernel only if the weight has one user; otherwise it computes in
    float. The copies are as large as the weights, and so are the packed weights of the kernels.
    """
    taken: set[str] = set()
    for node in list(model.graph.nodes):
        if node.op == "call_function" and operator_name(node.target) in WEIGHTED:
            _separate(model, node, taken)
    model.recompile()


def _separate(model: GraphModule, node: Node, taken: set[str]) -> None:
    weight: Any = node.args[1]
    if not is_constant(weight) or weight.op != "get_attr":
        return
    if str(weight.target) in taken:
        value = tensor_at(weight).detach().clone()
        node.update_arg(1, new_constant(model, node, "_own_weight_", value))
    taken.add(str(weight.target))
