"""A graph in which every block reads the outputs of all blocks before, concatenated.

Its edges are quadratic in its blocks: ``torch.export`` would take minutes for a thousand.
"""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
WIDTH = 2  # channels of the input and of each block


def dense(blocks: int) -> GraphModule:
    """Return convolutions with a relu each, on an image of 4 by 4."""
    root, graph, fake = nn.Module(), Graph(), FakeTensorMode()
    found = [valued(graph.placeholder("x"), fake, 1, WIDTH, 4, 4)]
    for number in range(blocks):
        channels = WIDTH * len(found)
        weight = parameter(root, graph, fake, f"weight_{number}", WIDTH, channels, 1, 1)
        bias = parameter(root, graph, fake, f"bias_{number}", WIDTH)
        joined = graph.call_function(aten.cat.default, (list(found), 1))
        product = graph.call_function(
            aten.conv2d.default, (valued(joined, fake, 1, channels, 4, 4), weight, bias)
        )
        relu = graph.call_function(aten.relu.default, (valued(product, fake, 1, WIDTH, 4, 4),))
        found.append(valued(relu, fake, 1, WIDTH, 4, 4))
    graph.output((found[-1],))
    return GraphModule(root, graph)


def parameter(root: nn.Module, graph: Graph, fake: FakeTensorMode, name: str, *shape: int) -> Node:
    root.register_parameter(name, nn.Parameter(torch.randn(shape)))
    return valued(graph.create_node("get_attr", name), fake, *shape)


def valued(node: Node, fake: FakeTensorMode, *shape: int) -> Node:
    with fake:
        node.meta["val"] = torch.empty(shape)
    return node
