"""Whether ExecuTorch can write to a cache in place, instead of to a copy that is copied back.

The kernel for ``index_put_`` (executorch 1.4.1) accepts what ``index_copy_`` writes: whole slices
at positions of one dimension. The pass that inserts it applies to all writes of a program, so that
one write of another kind would end the program at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

WRITE = "aten.index_put.default"


def can_write_in_place(sources: Sequence[ExportedProgram]) -> bool:
    """Whether all writes at positions, in all methods of a program, are of whole slices."""
    writes = [
        node
        for source in sources
        for node in source.graph.nodes
        if node.op == "call_function" and node.target.__name__ == WRITE
    ]
    return bool(writes) and all(map(_is_of_slices, writes))


def _is_of_slices(write: Node) -> bool:
    given: list[Any] = [*write.args, False]
    target, indices, values, accumulates = given[:4]
    positions = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if accumulates or len(positions) != 1:
        return False
    ((dim, index),) = positions
    length: Any = index.meta["val"].shape
    wanted = list(target.meta["val"].shape)
    wanted[dim : dim + 1] = length
    return len(length) == 1 and list(values.meta["val"].shape) == wanted
