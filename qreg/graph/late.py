"""Copies of graphs that dequantize each weight where it is read.

``convert_pt2e`` leaves the operators that dequantize weights ahead of all others. A run of such a
graph holds all weights in float at once.
"""

from __future__ import annotations

from torch.fx import GraphModule, Node

from qreg.graph.prepared import copied


def with_late_weights(model: GraphModule) -> GraphModule:
    """Return a copy, with each node that dequantizes a constant moved to its first user.

    The copy shares its tensors with the model.
    """
    made = copied(model)
    order = {node: number for number, node in enumerate(made.graph.nodes)}
    for node in reversed(list(order)):  # a list: fx would follow nodes to where they are moved
        if _dequantizes_a_constant(node) and node.users:
            min(node.users, key=order.__getitem__).prepend(node)
    return made


def _dequantizes_a_constant(node: Node) -> bool:
    sources = node.all_input_nodes
    return ".dequantize_" in str(node.target) and all(each.op == "get_attr" for each in sources)
