"""Keep Inductor from overwriting tensors that are still in use.

Inductor fuses ``residual + quantized_linear(x)`` into one kernel that adds to the residual in
place. The residual may be an input of the caller, a parameter or an output: the first call is then
correct and later calls are not. Float convolutions do the same to a residual that is returned as a
view. The guard therefore passes a copy to each such kernel, unless its residual is the result of
another kernel and has no other reader. The copies are inserted into Inductor's final graph, after
every pass that would eliminate them. They are part of the program, so a loaded program is safe too.
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
    """Insert copies for the unsafe accumulators of a graph; return the number of copies."""
    unsafe = [
        (node, added)
        for node in graph.nodes
        if (added := accumulator(node)) is not None and not _is_private(added)
    ]
    for node, added in unsafe:
        replace_accumulator(node, _copied(added, node))
    return len(unsafe)


def _is_private(value: Node) -> bool:
    """Whether a value is in a separate buffer that only its one user reads."""
    return len(value.users) == 1 and owns_result(value)


def _copied(value: Node, before: Node) -> Node:
    import torch

    with before.graph.inserting_before(before):
        copy = before.graph.call_function(torch.ops.aten.clone.default, (value,))
    copy.meta = {key: value.meta[key] for key in ABOUT_VALUES if key in value.meta}
    return copy


def final_pass(*others: Any) -> Any:
    """Return the guard as a pass over Inductor's final graphs; ``others`` are called after it.

    The uuid of the pass is part of Inductor's cache key, so that code compiled without the guard is
    never reused.
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
