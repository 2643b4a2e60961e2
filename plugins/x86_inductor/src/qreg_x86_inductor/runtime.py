"""Loads and runs an AOTInductor package.

A package holds compiled code, which runs with the rights of whoever loads it. What it does not
check itself is checked here: the file, the CPU, and the inputs.
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
    """Loads a package; the runner takes and gives flat tensors, on so many threads.

    Raises ``InputError`` for what is no AOTInductor package of qreg's, or is one for another CPU.
    """
    if threads < 0:
        raise InputError(f"option threads is {threads}: give a number, 0 for torch's own")
    check_package(program)
    with tempfile.TemporaryDirectory(prefix="qreg-x86-inductor-") as folder:
        path = Path(folder) / "program.pt2"
        path.write_bytes(program)
        call, metadata = load_package(path)  # which unpacks it to a folder of its own
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
    """torch counts threads for the whole process, so its number is put back after each call."""
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
    """Raises ``InputError`` for bytes that are no whole AOTInductor package."""
    try:
        names = zipfile.ZipFile(io.BytesIO(program)).namelist()
    except zipfile.BadZipFile as cause:
        raise InputError(
            f"it is no AOTInductor package, or is cut short: {cause} ({len(program):,} bytes)"
        ) from cause
    if any(name.endswith(EXPORTED) for name in names):
        raise InputError(
            "it is an exported program, which torch.export.save writes under the same suffix: "
            "lower it first, with qreg.quantize or qreg.lower"
        )
    if not any(CODE in name and name.endswith(".so") for name in names):
        raise InputError(f"it is a zip file without compiled code: nothing in {CODE.strip('/')}")
