"""Copies in a decomposed program that change nothing.

A ``reshape`` downstream of a ``permute`` is decomposed into a ``clone`` and a ``view``. The
partitioner (executorch 1.4.1) then does not find the dequantize that the view reads, and leaves the
view in float between two conversions. The copies of decomposed programs are contiguous already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.backends.exported import name_of
from qreg.graph.rewrites import bypass

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torch.fx.passes.infra.pass_base import PassResult

CLONES = ("aten.clone.default", "dim_order_ops._clone_dim_order.default")


def without_copies(graph_module: GraphModule) -> PassResult:
    """Bypass all copies with the strides of their input, except for outputs of the program."""
    from torch.fx.passes.infra.pass_base import PassResult

    found = [node for node in graph_module.graph.nodes if _changes_nothing(node)]
    changed = [bypass(node) for node in found]
    if changed:
        graph_module.recompile()
    return PassResult(graph_module, bool(changed))


def _changes_nothing(node: Node) -> bool:
    if name_of(node) not in CLONES or any(user.op == "output" for user in node.users):
        return False
    source, value = node.all_input_nodes[0].meta["val"], node.meta["val"]
    return bool(source.stride() == value.stride() and source.dtype == value.dtype)
