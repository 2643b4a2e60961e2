"""Copy a program, to rewrite the copy."""

from __future__ import annotations

import copy

from torch.export import ExportedProgram


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
