"""Reject a model that writes to its buffers if the backend's programs do not keep state.

:func:`qreg.prepare` checks this ahead of calibration, and lowering checks it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.errors import StateError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from qreg.plugins.types.backend import Backend


def check_state(backend: Backend, program: ExportedProgram) -> None:
    """Raise ``StateError`` for a program with state and a backend that is ``stateless``."""
    if backend.stateless is None:
        return
    for name in written_by(program):
        raise StateError(
            f"the program changes its buffer {name!r}, and {backend.stateless}: make it an input "
            "and an output"
        )


def written_by(program: ExportedProgram) -> list[str]:
    """Return the parameters and buffers that a program, functional or not, writes to."""
    from qreg.graph.mutation import Mutations

    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    mutations = Mutations.of(program.graph)
    inputs = program.graph.find_nodes(op="placeholder")
    written = [names[n.name] for n in inputs if n.name in names and mutations.is_written(n)]
    return [*written, *signature.buffers_to_mutate.values()]
