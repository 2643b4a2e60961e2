"""The values of nodes of a program that depend only on its constants, such as a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.nodes import is_random

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node


def lifted(program: ExportedProgram) -> dict[Node, Tensor | None]:
    """Return the graph inputs that are tensors of the model which the model never writes to.

    Masks that were computed ahead of time are among them.
    """
    from qreg.graph.mutation import Mutations

    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.state_dict, **program.constants}
    mutations = Mutations.of(program.graph)
    return {
        node: tensors[names[node.name]].detach()
        for node in program.graph.find_nodes(op="placeholder")
        if node.name in names and not mutations.is_written(node)
    }


def known_value(node: Node, known: dict[Node, Tensor | None]) -> Tensor | None:
    """Return the value of a node that depends only on constants, or None; ``known`` is extended."""
    if node not in known:
        known[node] = _computed(node, known) if _is_repeatable(node) else None
    return known[node]


def _is_repeatable(node: Node) -> bool:
    return node.op == "call_function" and not is_random(node.target)


def _computed(node: Node, known: dict[Node, Tensor | None]) -> Tensor | None:
    from torch.fx.node import map_arg

    if any(known_value(source, known) is None for source in node.all_input_nodes):
        return None
    args, kwargs = map_arg((node.args, node.kwargs), known.__getitem__)
    value: Tensor | None = node.target(*args, **kwargs)  # type: ignore[operator]
    return value
