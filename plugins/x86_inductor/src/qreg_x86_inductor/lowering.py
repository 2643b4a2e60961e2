"""Lower a program to an AOTInductor package, and report how each operator was compiled."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qreg import Lowered
from qreg.errors import LoweringError
from qreg_x86_inductor.compat import compile_package
from qreg_x86_inductor.guard import final_pass
from qreg_x86_inductor.reading import Reading, note_steps
from qreg_x86_inductor.signature import metadata_of
from qreg_x86_inductor.transforms import spell_out_alphas, spell_out_doubles

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MACHINES = ("x86_64", "AMD64")


def lower(program: ExportedProgram) -> Lowered:
    """Compile a program for this machine; the package contains the whole program.

    Raises ``LoweringError`` on an architecture other than x86, for a program without example
    inputs, and if the compiler skipped the guard of its final graphs.
    """
    check_machine()
    if program.example_inputs is None:
        raise LoweringError(
            "the program has no example inputs (Inductor requires them). Export the model with "
            "example inputs"
        )
    spell_out_alphas(program.graph)
    spell_out_doubles(program.graph)
    program.graph_module.recompile()
    note_steps(program.graph)
    reading = Reading(program.graph)
    with tempfile.TemporaryDirectory(prefix="qreg-x86-inductor-") as folder:
        written = compile_package(program, metadata_of(program), final_pass(reading), Path(folder))
    if not reading.graphs:
        raise LoweringError("Inductor did not call the guard of its final graphs")
    return Lowered(
        program=written,
        delegates=1,
        operators=tuple(reading.operators),
        conversions=tuple(reading.conversions),
    )


def check_machine() -> None:
    """Raise ``LoweringError`` on an architecture other than x86."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise LoweringError(
            f"this machine: the architecture is {machine} (expected x86). Lower on x86, or choose "
            "another backend such as xnnpack"
        )
