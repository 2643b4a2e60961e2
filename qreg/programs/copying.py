"""Copy a program, or take its graph, to rewrite it."""

from __future__ import annotations

import copy

from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.graph.lazy_recompile import recompiled_when_used
from qreg.graph.prepared import copied as copied_graph


def copied(program: ExportedProgram) -> ExportedProgram:
    """Return a copy of a program that can be rewritten; both share their tensors.

    A copied graph renames nodes with the names of builtins, such as ``input``, which the signature
    of the program still has: these names are restored.
    """
    shared = [*program.state_dict.values(), *program.constants.values(), program.range_constraints]
    found = copy.deepcopy(program, {id(each): each for each in shared})
    for node, original in zip(found.graph.nodes, program.graph.nodes, strict=True):
        node.name = original.name
    return found


def module_of(program: ExportedProgram) -> GraphModule:
    """Return the graph module of a program, which can be rewritten; both share their tensors.

    ``ExportedProgram.module`` (torch 2.13) copies the graph, but not the bodies of loops in it.
    """
    with recompiled_when_used():
        module: GraphModule = program.module(check_guards=False)
        for name, body in list(module.named_children()):
            if isinstance(body, GraphModule):
                setattr(module, name, copied_graph(body))
    return module
