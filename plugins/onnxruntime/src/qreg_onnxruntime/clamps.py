"""Clamp values ahead of the operators that move them, where the clamp costs nothing.

onnxruntime 1.32 has no integer kernel for a clamp. It removes a clamp that a quantization implies,
together with the quantization of the operator upstream. An integer kernel that computes its output
anew loses nothing by that; a move or a max pool then runs in float, between two conversions. A
clamp of ``slice(x)`` is the slice of the clamped ``x``, and so for every operator of ``MOVED``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import Bounds, bounds_of
from qreg.graph.nodes import called, calls
from qreg.graph.operators import (
    ADD,
    ADDMM,
    BATCH_NORM,
    CAT,
    CLAMPS,
    CONVOLUTIONS,
    EXPAND,
    GLOBAL_POOLS,
    LINEAR,
    MATMUL,
    MAX_POOLS,
    MEANS,
    MOVES,
    MUL,
    RELU,
    SLICE,
)

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Match, Mode
    from qreg.graph.mutation import Mutations

SLICES = (*SLICE, "aten.select.int")
# Implied by a quantization downstream: no quantized value lies beyond the bounds.
BOUNDED = (*RELU, *CLAMPS)
MOVED = frozenset({*MOVES, *SLICES, *EXPAND, *MAX_POOLS})
COMPUTED = (
    *(*CONVOLUTIONS, *BATCH_NORM, *LINEAR, *ADDMM, *MATMUL),
    *(*ADD, *MUL, *CAT, *MEANS, *GLOBAL_POOLS),
)


def clamped_first(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Move clamps ahead of the operators of ``MOVED``, to the operator that computes the values.

    A clamp is moved if all values that it reads from there reach equal clamps.
    """
    from qreg.graph.mutation import Mutations

    mutations = Mutations.of(model.graph)
    changed = [_clamp(node, mutations) for node in calls(model.graph, COMPUTED)]
    if any(changed):
        model.recompile()
    return model


def _clamp(node: Node, mutations: Mutations) -> bool:
    """Clamp the result of an operator ahead of its moves; return whether the graph changed."""
    ends = list(_ends(node))
    bounds = {bounds_of(end, called(end)) for end in ends}
    if len(bounds) != 1 or not _include_zero(*bounds) or all(_source(end) is node for end in ends):
        return False
    if not all(_is_written_by(ends, each, mutations) for each in (node, *ends)):
        return False
    first, *others = ends
    for end in ends:
        end.replace_all_uses_with(_source(end))
    for end in others:
        node.graph.erase_node(end)
    node.append(first)
    node.replace_all_uses_with(first, delete_user_cb=lambda user: user is not first)
    _read(first, node)
    return True


def _include_zero(bounds: Bounds | None) -> bool:
    return bounds is not None and bounds[0] <= 0 <= bounds[1]


def _ends(node: Node) -> Iterator[Node]:
    """Yield the first readers, downstream of a value, that do more than to move it."""
    for user in node.users:
        if called(user) in MOVED and user.args[0] is node:
            yield from _ends(user)
        else:
            yield user


def _source(clamp: Node) -> Node:
    return clamp.all_input_nodes[0]


def _is_written_by(writers: list[Node], node: Node, mutations: Mutations) -> bool:
    """Whether these alone write to the memory of a node, if it is written to at all."""
    found = mutations.writers.get(mutations.owner_of(node), ())
    return all(writer in writers for writer in found)


def _read(clamp: Node, source: Node) -> None:
    """Let a clamp read another value, and write to none."""
    import torch

    name = called(clamp).split(".")[1]
    overload: Any = getattr(torch.ops.aten, name).default
    clamp.target, clamp.args = overload, (source, *clamp.args[1:])
    clamp.meta["val"] = overload(source.meta["val"], *clamp.args[1:], **clamp.kwargs)


def unclamped(match: Match, config: QuantizationConfig) -> str | None:
    """Require another reader of values that are moved than a clamp; see ``clamped_first``."""
    users = match.output.users
    if users and all(called(user) in BOUNDED for user in users):
        return (
            "a clamp alone reads it: ONNX Runtime has no integer kernel for a clamp of some of the "
            "values that an operator computes"
        )
    return None
