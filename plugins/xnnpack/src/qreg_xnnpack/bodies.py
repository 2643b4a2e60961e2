"""Decompose the operators in branches and bodies of control flow, which run outside the delegate.

The partitioner (executorch 1.4.1) delegates operators of the program's own graph only, yet keeps
those that the delegate has (linear, max_pool2d, hardswish, prelu, bilinear upsampling) from being
decomposed everywhere. A program with one of them in a branch does not lower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule


def bodies_of(program: ExportedProgram) -> dict[str, GraphModule]:
    """Return the branches and bodies of a program by name."""
    from torch.fx import GraphModule

    children = program.graph_module.named_children()
    return {name: each for name, each in children if isinstance(each, GraphModule)}


def spell_out_bodies(program: ExportedProgram) -> None:
    """Rewrite each branch and body in operators of the core set, in place."""
    for name, body in bodies_of(program).items():
        setattr(program.graph_module, name, _spelled_out(body))


def _spelled_out(body: GraphModule) -> GraphModule:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    body.recompile()  # its operators were rewritten
    given = [node.meta["val"] for node in body.graph.find_nodes(op="placeholder")]
    table: Any = torch.export.default_decompositions()
    with torch.no_grad():
        return make_fx(body, decomposition_table=table)(*given)
