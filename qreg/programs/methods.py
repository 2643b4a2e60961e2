"""Check that the methods of one program agree on the state that they share.

A buffer is shared if methods write to one of the same name. A method that only reads such a buffer
would have a copy of it, since constants are folded, and are packed by delegates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import torch

from qreg.errors import InputError
from qreg.programs.stateless import written_by

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

REMEDY = "Export the methods from one model, or rename the buffer."


def check_names(methods: Mapping[str, object]) -> None:
    """Raise ``InputError`` for no method, and for names that are not identifiers."""
    if not methods:
        raise InputError("methods: there is none (expected at least one by name).")
    for name in methods:
        if not (isinstance(name, str) and name.isidentifier()):
            raise InputError(
                f"methods: {name!r} is not the name of a method (expected an identifier, such as "
                "'prefill')."
            )


def check_shared(
    programs: Mapping[str, ExportedProgram], reads: Mapping[str, Collection[str]]
) -> None:
    """Raise ``InputError`` if a buffer that a method writes to is another one in another method.

    ``reads`` are the names of the buffers that each method uses.
    """
    states = {name: _state(program) for name, program in programs.items()}
    _check_reads(states, reads)
    for one, other in combinations(states, 2):
        for buffer in states[one].keys() & states[other].keys():
            if problem := _difference(states[one][buffer], states[other][buffer]):
                raise InputError(
                    f"method {other!r}: buffer {buffer!r} has {problem} than in method {one!r} "
                    f"(expected the same, since both write to it). {REMEDY}"
                )


def _check_reads(
    written: Mapping[str, Collection[str]], read: Mapping[str, Collection[str]]
) -> None:
    """Raise ``InputError`` if a method reads a buffer that only another method writes to."""
    for one, other in permutations(written, 2):
        stale = set(written[one]) & set(read[other]) - set(written[other])
        if stale:
            raise InputError(
                f"method {other!r}: it reads buffer {min(stale)!r}, which method {one!r} writes to "
                "(expected a method that writes to it too: what a method only reads is a constant "
                "of the program). Write it in both, or return it and pass it as an input."
            )


def names_read(program: ExportedProgram) -> frozenset[str]:
    """Return the names of the parameters, buffers and constants that a program uses."""
    inputs = {node.name for node in program.graph.find_nodes(op="placeholder") if node.users}
    specs = program.graph_signature.input_specs
    return frozenset(str(spec.target) for spec in specs if spec.arg.name in inputs and spec.target)


def _state(program: ExportedProgram) -> dict[str, Tensor]:
    tensors = {**program.state_dict, **program.constants}
    return {name: tensors[name] for name in written_by(program)}


def _difference(one: Tensor, other: Tensor) -> str | None:
    if one.shape != other.shape:
        return "another shape"
    if one.dtype != other.dtype:
        return "another dtype"
    return None if torch.equal(one, other) else "other values"
