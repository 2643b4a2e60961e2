"""To an AOTInductor package, and reading back what became of the program."""

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
from qreg_x86_inductor.transforms import spell_out_alpha

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MACHINES = ("x86_64", "AMD64")


def lower(program: ExportedProgram) -> Lowered:
    """Compiles a program for this machine; all of it is in the package.

    Raises ``LoweringError`` on another architecture than x86, for a program without example inputs,
    and if the compiler did not show its final graph, which could then not be guarded.
    """
    check_machine()
    if program.example_inputs is None:
        raise LoweringError("the program has no example inputs, which Inductor compiles with")
    spell_out_alpha(program.graph)
    program.graph_module.recompile()
    note_steps(program.graph)
    reading = Reading(program.graph)
    with tempfile.TemporaryDirectory(prefix="qreg-x86-inductor-") as folder:
        written = compile_package(program, metadata_of(program), final_pass(reading), Path(folder))
    if not reading.graphs:
        raise LoweringError("Inductor compiled without calling the guard of its final graphs")
    return Lowered(
        program=written,
        delegates=1,
        operators=tuple(reading.operators),
        conversions=tuple(reading.conversions),
    )


def check_machine() -> None:
    """Raises ``LoweringError`` where the int8 kernels of x86 are not."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise LoweringError(
            f"this machine is {machine}: the int8 kernels are those of x86. Lower on x86, or "
            "choose another backend, as xnnpack"
        )
