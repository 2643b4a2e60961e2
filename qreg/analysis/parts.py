"""Cut a converted model at the nodes that split no pattern.

A backend lowers half of a pattern as a different one, so a part ends only between patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from qreg.graph.provenance import origin

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision

QUANTIZE = "quantized_decomposed.quantize_per_"
DEQUANTIZE = "quantized_decomposed.dequantize_per_"


def ends(converted: GraphModule, decisions: Sequence[Decision]) -> list[Node]:
    """Return the nodes after which the graph can be cut without splitting a pattern."""
    position = {node: number for number, node in enumerate(converted.graph.nodes)}
    nodes: dict[str, list[Node]] = {}
    for node in position:
        if name := origin(node):
            nodes.setdefault(name, []).append(node)
    spans = []
    for decision in decisions:
        names = dict.fromkeys((*decision.pattern, decision.node))
        parts = [node for name in names for node in nodes.get(name, [])]
        if parts:
            first, last = min(parts, key=position.__getitem__), max(parts, key=position.__getitem__)
            spans.append((position[first], _behind(last)))
    inside = _inside([(start, position[end]) for start, end in spans])
    found = sorted({end for _, end in spans}, key=position.__getitem__)
    return [end for end in found if position[end] not in inside and _given(converted, end)]


def _inside(spans: Sequence[tuple[int, int]]) -> set[int]:
    """Return the positions after which a cut would split a pattern: all but the last of each."""
    return {at for start, end in spans for at in range(start, end)}


def _behind(node: Node) -> Node:
    """Return the node that dequantizes the output of an operator, or else the operator."""
    for follower in (QUANTIZE, DEQUANTIZE):
        following = [user for user in node.users if str(user.target).startswith(follower)]
        node = following[0] if following else node
    return node


def _given(converted: GraphModule, end: Node) -> list[Node]:
    """Return the floating-point tensors of the part up to ``end`` that are read after it."""
    inside, computed = set[Node](), set[Node]()
    for node in converted.graph.nodes:
        inside.add(node)
        if node.op == "placeholder" or any(each in computed for each in node.all_input_nodes):
            computed.add(node)
        if node is end:
            break
    return [
        node
        for node in converted.graph.nodes
        if node in computed
        and node.op != "placeholder"
        and _is_float(node)
        and (node is end or any(user not in inside for user in node.users))
    ]


def _is_float(node: Node) -> bool:
    if str(node.target).startswith(DEQUANTIZE):
        return True  # convert sets no meta value on it
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def up_to(converted: GraphModule, end: Node) -> GraphModule:
    """Return the part of a model that ends with a node; its inputs are flat."""
    graph = Graph()
    copies = dict(_copied(graph, converted.graph, end))
    graph.output(tuple(copies[node] for node in _given(converted, end)))
    graph.eliminate_dead_code()
    return GraphModule(converted, graph)


def _copied(into: Graph, graph: Graph, end: Node) -> Iterator[tuple[Node, Node]]:
    copies: dict[Node, Node] = {}
    for node in graph.nodes:
        if end not in copies or node.op == "placeholder":
            copies[node] = into.node_copy(node, copies.__getitem__)
            yield node, copies[node]
