"""Run a TOSA program in the reference model, in a separate process.

Arm's reference model implements the TOSA specification exactly and is slow. Its Python binding
prints, and aborts the process for a damaged program; the executable isolates the caller from both.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qreg.backends.inputs import TensorSpec, check_inputs
from qreg.errors import InputError, VerificationError
from qreg_arm.compat import reference_model
from qreg_arm.reading import TosaGraph, TosaTensor, read

if TYPE_CHECKING:
    from torch import Tensor

    from qreg import Runner


def load(program: bytes) -> Runner:
    """Load a program; the runner accepts and returns flat tensors.

    Raises ``InputError`` for bytes that are not a TOSA program, or are cut short.
    """
    graph = read(program)
    wanted = [TensorSpec.of(each.dtype, each.shape) for each in graph.inputs]

    def run(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(inputs) == len(graph.inputs):
            inputs = [_narrowed(*pair) for pair in zip(inputs, graph.inputs, strict=True)]
        check_inputs(wanted, inputs)
        with tempfile.TemporaryDirectory(prefix="qreg-tosa-") as name:
            return _run(Path(name), program, graph, inputs)

    return run


def _narrowed(given: Tensor, wanted: TosaTensor) -> Tensor:
    """Convert a tensor of indices from int64 (torch) to int32 (TOSA).

    Raises ``InputError`` for a value that int32 cannot represent.
    """
    if (str(given.dtype), wanted.dtype) != ("torch.int64", "INT32"):
        return given
    narrow = given.int()
    if not narrow.equal(given):
        raise InputError(f"an input has a number that is beyond int32 (expected {wanted})")
    return narrow


def _run(
    folder: Path, program: bytes, graph: TosaGraph, inputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    import numpy
    import torch

    description = _description(graph)
    (folder / "program.tosa").write_bytes(program)
    (folder / "description.json").write_text(json.dumps(description))
    for file, tensor in zip(description["ifm_file"], inputs, strict=True):
        numpy.save(folder / file, tensor.detach().numpy())
    _call(folder)
    return tuple(torch.from_numpy(numpy.load(folder / file)) for file in description["ofm_file"])


def _description(graph: TosaGraph) -> dict[str, list[str]]:
    """Return the files that the reference model reads and writes, as a test description."""
    found: dict[str, list[str]] = {"variable_name": [], "variable_file": []}
    for role, tensors in (("ifm", graph.inputs), ("ofm", graph.outputs)):
        found[f"{role}_name"] = [tensor.name for tensor in tensors]
        found[f"{role}_file"] = [f"{role}{number}.npy" for number in range(len(tensors))]
    return found


def _call(folder: Path) -> None:
    command = [str(reference_model()), "--tosa_file=program.tosa", "--test_desc=description.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or "no output"
        raise VerificationError(
            f"the TOSA reference model ended with {done.returncode}: {said}. The program computes "
            "values that TOSA leaves undefined, or its file is damaged"
        )
