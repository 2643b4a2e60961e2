"""Transform a graph ahead of annotation."""

from __future__ import annotations

from collections.abc import Set

from torch.fx import GraphModule, Node

from qreg.errors import InputError
from qreg.folding.fold import folded
from qreg.folding.parameters import fold_constants
from qreg.graph.composites import spelled_out
from qreg.graph.mutation import own_state, written_buffers
from qreg.graph.provenance import remember_operators
from qreg.plugins.blame import call
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend, Mode
from qreg.quantizer.wrapped import WrappedQuantizers


def transformed(
    model: GraphModule, supplied: Supplied[Backend], modes: frozenset[Mode], targets: Set[str]
) -> GraphModule:
    """Fold a graph, unless ``modes`` contain QAT, and run the transforms of the backend on it.

    Composites are decomposed, except those in ``targets``, from which annotators start.
    """
    own_state(model)
    remember_operators(model.graph)
    _erase_dead(model)
    trained = "qat" in modes
    model = model if trained else folded(model)
    spelled_out(model, targets, trained=trained)
    if not trained:
        fold_constants(model)
    for transform in supplied.value.transforms:
        role = f"transform {_spelled(transform)}"
        model = call(supplied, role, transform, model, modes, expected=GraphModule)
    return model


def transformed_by_wrapped(
    model: GraphModule, wrapped: WrappedQuantizers, backend: str, *, trained: bool
) -> GraphModule:
    """Run the passes of a wrapped quantizer.

    Unless the model is ``trained``, constants are folded, and unused operators erased, in what the
    passes write. Preparing the result again then gives the same graph.

    Raises ``InputError`` if they drop a write to a buffer.
    """
    written = written_buffers(model.graph)
    found = wrapped.transform(model)
    if not trained:
        fold_constants(found)  # of what the passes write for a constant, such as its reciprocal
        _erase_dead(found)
    lost = sorted(written - written_buffers(found.graph))
    if lost:
        raise InputError(
            f"buffer {lost[0]!r}: the model writes to it, which the passes of {backend!r} drop "
            "(expected a model without state). Pass the state in and out as tensors."
        )
    return found


def _spelled(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _erase_dead(model: GraphModule) -> None:
    for node in reversed(model.graph.nodes):  # fx's own elimination lints the whole graph
        if _is_dead(node):
            model.graph.erase_node(node)


def _is_dead(node: Node) -> bool:
    return node.op == "call_function" and not node.users and not node.is_impure()
