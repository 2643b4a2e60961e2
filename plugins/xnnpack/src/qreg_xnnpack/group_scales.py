"""Round the scales of weights in groups to bfloat16, in which the delegate stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.nodes import called, calls, tensor_at

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

DEQUANTIZE = ("torchao.dequantize_affine.default",)
SCALE = 2  # its position in the call


def as_stored(converted: GraphModule) -> GraphModule:
    """Round the scales to what the delegate (executorch 1.4.1) computes with, in place."""
    import torch

    for dequantize in calls(converted.graph, DEQUANTIZE):
        scale: Any = dequantize.args[SCALE]
        if scale.op == "get_attr" and not any(map(_looks_up, dequantize.users)):
            stored = tensor_at(scale)
            stored.copy_(stored.detach().to(torch.bfloat16))
    return converted


def _looks_up(node: Node) -> bool:
    """Whether a node reads a table of embeddings, whose scales stay in float32."""
    return called(node) == "aten.embedding.default"
