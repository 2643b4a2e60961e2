"""Read from the graph of a language model what a lowered program tells about itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from qreg.graph.compat import largest_size
from qreg.graph.mutation import Mutations
from qreg.graph.nodes import called
from qreg.inputs.signature import Signature
from qreg.plugins.types.interface import Interface, Port

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node


def interface_of(model: GraphModule) -> Interface:
    """Return the inputs, the first output and the caches of an exported model."""
    places = model.graph.find_nodes(op="placeholder")
    names = [spec.name for spec in Signature.of_graph(model).specs]
    inputs = [_port(name, place.meta["val"]) for name, place in zip(names, places, strict=True)]
    output = _port("output", _first_output(model.graph))
    return Interface(tuple(inputs), (output,), dict(_caches(model.graph)))


def _port(name: str, value: torch.Tensor) -> Port:
    shape = tuple(map(largest_size, value.shape))
    dynamic = not all(isinstance(size, int) for size in value.shape)
    return Port(name, str(value.dtype).removeprefix("torch."), shape, dynamic)


def _first_output(graph: Graph) -> torch.Tensor:
    node: Any = graph.output_node().args[0][0]  # type: ignore[index]
    while not isinstance(node.meta.get("val"), torch.Tensor):  # those that convert inserted
        node = node.all_input_nodes[0]
    value: torch.Tensor = node.meta["val"]
    return value


def _caches(graph: Graph) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of positions of each cache."""
    mutations = Mutations.of(graph)
    for node in graph.nodes:
        dim = _written_dim(node)
        if dim is not None and mutations.is_state(node):
            yield str(mutations.owner_of(node).target), int(node.meta["val"].shape[dim])


def _written_dim(node: Node) -> int | None:
    """Return the dimension along which a call writes at positions that are a tensor."""
    name, args = called(node), node.args
    if name == "aten.index_copy.default":
        return int(args[1])  # type: ignore[arg-type]
    if name == "aten.index_put.default":
        indices: Any = args[1]
        return next((dim for dim, index in enumerate(indices) if index is not None), None)
    return None
