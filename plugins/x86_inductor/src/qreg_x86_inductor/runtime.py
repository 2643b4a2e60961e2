"""Load and run an AOTInductor package.

A package contains compiled code, which runs with the rights of the process that loads it. This
module checks what the package does not: the file, the CPU, and the inputs.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qreg.backends.inputs import TensorSpec, check_inputs
from qreg.errors import InputError
from qreg_x86_inductor.compat import load_package
from qreg_x86_inductor.signature import read

if TYPE_CHECKING:
    from torch import Tensor

    from qreg import Runner

CODE, EXPORTED = "/data/aotinductor/", ("models/model.json", "serialized_exported_program.json")


def load(program: bytes, threads: int = 0) -> Runner:
    """Load a package; the runner accepts and returns flat tensors.

    ``threads`` is the number of threads that the runner computes on (0: torch decides).

    Raises ``InputError`` if ``program`` is not an AOTInductor package that qreg lowered, or was
    compiled for another CPU.
    """
    if threads < 0:
        raise InputError(f"option threads: {threads} is negative (expected 0 or more)")
    check_package(program)
    with tempfile.TemporaryDirectory(prefix="qreg-x86-inductor-") as folder:
        path = Path(folder) / "program.pt2"
        path.write_bytes(program)
        call, metadata = load_package(path)  # unpacks it to a separate folder
    signature = read(metadata)
    inputs = signature.inputs
    wanted = [TensorSpec(each.dtype, each.shape) for each in inputs]

    def run(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        check_inputs(wanted, given)
        taken = [each.taken(value) for each, value in zip(inputs, given, strict=True)]
        with _on_threads(threads):
            outputs = call(taken)
        return tuple(outputs[place] for place in signature.outputs)

    return run


@contextmanager
def _on_threads(threads: int) -> Iterator[None]:
    """Set torch's number of threads, and restore it on exit because it is global to the process."""
    import torch

    before = torch.get_num_threads()
    if threads in (0, before):
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_package(program: bytes) -> None:
    """Raise ``InputError`` for bytes that are not a complete AOTInductor package."""
    try:
        names = zipfile.ZipFile(io.BytesIO(program)).namelist()
    except zipfile.BadZipFile as cause:
        raise InputError(
            f"it is not an AOTInductor package, or is cut short: {cause} ({len(program):,} bytes)"
        ) from cause
    if any(name.endswith(EXPORTED) for name in names):
        raise InputError(
            "it is an exported program (torch.export.save writes the same suffix). Lower it first, "
            "with qreg.quantize or qreg.lower"
        )
    if not any(CODE in name and name.endswith(".so") for name in names):
        raise InputError(
            f"it is a zip file without compiled code (expected {CODE.strip('/')}/*.so)"
        )
