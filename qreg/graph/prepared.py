"""Prepared graphs: their observers, copies, and the float graph without observers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import AffineQuantizedObserverBase, FakeQuantizeBase, ObserverBase

from qreg.graph.compat import move_annotation
from qreg.graph.lazy_recompile import recompiled_when_used

OBSERVERS = (ObserverBase, FakeQuantizeBase, AffineQuantizedObserverBase)


def is_prepared(model: object) -> bool:
    """Whether a model has observers or fake quantizers in it."""
    return isinstance(model, nn.Module) and any(
        isinstance(module, OBSERVERS) for module in model.modules()
    )


def observers(model: GraphModule) -> dict[Node, nn.Module]:
    """Return the observer or fake quantizer that each node of a prepared graph calls.

    An observer that several nodes share is there once for each of them. Bodies of loops have
    separate graphs, whose nodes are not included.
    """
    called = {
        node: model.get_submodule(str(node.target))
        for node in model.graph.nodes
        if node.op == "call_module"
    }
    return {node: module for node, module in called.items() if isinstance(module, OBSERVERS)}


def copied(model: GraphModule) -> GraphModule:
    """Return a copy of a graph, and of bodies in it, that shares its tensors and its observers.

    Attributes of the copy can be replaced without an effect on the original.
    """
    graph = torch.fx.Graph()
    places: dict[Node, Node] = {}
    graph.output(graph.graph_copy(model.graph, places))
    graph.set_codegen(model.graph._codegen)
    for node in graph.nodes:
        move_annotation(node, places)
    made = GraphModule(model, graph)
    made.meta.update(model.meta)  # by which torchao recognizes a prepared model
    for name, body in list(made.named_children()):
        if isinstance(body, GraphModule):  # of a scan or a loop
            setattr(made, name, copied(body))
    return made


def independent(model: GraphModule, known: dict[int, Any] | None = None) -> GraphModule:
    """Return a copy of a graph with separate tensors and observers.

    ``known`` is the memo of ``copy.deepcopy``: graphs that are copied with the same one share what
    their originals share. ``copy.deepcopy`` of a graph also copies the structure of its inputs,
    with a warning of torch.
    """
    made, known = copied(model), {} if known is None else known
    for name, child in list(made.named_modules(remove_duplicate=False)):
        if name and "." not in name:
            nested = isinstance(child, GraphModule)
            setattr(
                made, name, independent(child, known) if nested else copy.deepcopy(child, known)
            )
    parameters = made.named_parameters(recurse=False, remove_duplicate=False)
    buffers = made.named_buffers(recurse=False, remove_duplicate=False)
    for name, tensor in [*parameters, *buffers]:
        setattr(made, name, copy.deepcopy(tensor, known))
    return made


def constants_late(prepared: GraphModule) -> GraphModule:
    """Move the observers of constants to where they are first read, in place; return the model.

    torchao 0.18.0 inserts them where the constants are, at the beginning. A run in which observers
    round would have all rounded weights in memory at once.
    """
    order = {node: number for number, node in enumerate(prepared.graph.nodes)}
    for node in observers(prepared):
        if node.users and node.all_input_nodes[0].op == "get_attr":
            min(node.users, key=order.__getitem__).prepend(node)
    prepared.recompile()
    return prepared


def float_graph(prepared: GraphModule) -> GraphModule:
    """Return the float model of a prepared one: the same operators and weights, without observers.

    The prepared model is not modified. The copy shares its weights.
    """
    with recompiled_when_used():
        plain = copied(prepared)
    for name, child in list(plain.named_children()):
        if isinstance(child, GraphModule):
            setattr(plain, name, float_graph(child))
    for node in observers(plain):
        (source,) = node.all_input_nodes
        node.replace_all_uses_with(source)
        plain.graph.erase_node(node)
        plain.delete_submodule(str(node.target))
    plain.recompile()
    return plain
