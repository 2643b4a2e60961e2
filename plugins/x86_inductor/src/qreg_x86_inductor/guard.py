"""Keeps Inductor from overwriting what is not its own.

``residual + quantized_linear(x)`` becomes one kernel that adds to the residual in place, whatever
that is: an input of the caller, a parameter, an output. The first call is right, later ones are
not. Float convolutions do it too, to what is given out as a view. So each such kernel gets a copy
to add to, unless its residual is the result of another kernel that nobody else reads. The copies
are made in Inductor's final graph, behind everything that would take them out again, and are part
of the program: whoever loads it is as safe.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qreg_x86_inductor.compat import accumulator, owns_result, replace_accumulator

if TYPE_CHECKING:
    from torch.fx import Graph, Node

ABOUT_VALUES = ("val", "tensor_meta")


def guard(graph: Graph) -> int:
    """Gives the kernels of a graph copies to add to; returns how many were needed."""
    unsafe = [
        (node, added)
        for node in graph.nodes
        if (added := accumulator(node)) is not None and not _is_private(added)
    ]
    for node, added in unsafe:
        replace_accumulator(node, _copied(added, node))
    return len(unsafe)


def _is_private(value: Node) -> bool:
    """Whether a value is a buffer of its own, which nothing but its one user can see."""
    return len(value.users) == 1 and owns_result(value)


def _copied(value: Node, before: Node) -> Node:
    import torch

    with before.graph.inserting_before(before):
        copy = before.graph.call_function(torch.ops.aten.clone.default, (value,))
    copy.meta = {key: value.meta[key] for key in ABOUT_VALUES if key in value.meta}
    return copy


def final_pass(*others: Any) -> Any:
    """The guard as a pass over Inductor's final graphs, with ``others`` called behind it.

    Its identity is part of the key under which Inductor keeps what it compiled, so that nothing
    unguarded is taken from there.
    """
    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Guard(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            guard(graph)
            for other in others:
                other(graph)

        def uuid(self) -> bytes:
            return _digest()

    return Guard()


def _digest() -> bytes:
    files = [Path(__file__), Path(__file__).with_name("compat.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()
