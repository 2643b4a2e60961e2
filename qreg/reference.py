"""Compares a lowered program, wherever it comes from, with a reference model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qreg.errors import InputError, VerificationError
from qreg.inputs import checked, input_specs
from qreg.model import Lowered
from qreg.mutation import own_state
from qreg.registry import Registry, installed
from qreg.target import target
from qreg.verification import (
    FLOOR,
    Outputs,
    Verification,
    check_alike,
    compare_all,
    judge,
    outputs_of,
    repeats_for,
    run_program,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram

REFERENCE = "reference"
REMEDY = "Is the reference the model it was made from? A lower floor asks for less."


def verify(
    program: bytes,
    reference: ExportedProgram,
    inputs: Iterable[Any],
    *,
    backend: str = "xnnpack",
    floor: float = FLOOR,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    run: Callable[..., Outputs] = run_program,
) -> Verification:
    """Loads a program, runs it on inputs, and compares it with a reference.

    ``reference`` is the float model that the program was made from, or the converted one; the
    comparisons are in ``to_float``. ``inputs`` are batches in the forms that calibration takes.
    ``run`` is :func:`~qreg.isolation.run_isolated` where the program may be damaged.

    Raises ``InputError`` for inputs that do not fit the reference, and ``VerificationError`` for a
    program that does not load or run, gives outputs of other shapes, as one of another model does,
    gives NaN, or is less than ``floor`` dB from the reference.
    """
    goal = target(registry or installed(), backend, options)
    samples = list(checked(inputs, input_specs(reference), "input batch"))
    if not samples:
        raise InputError("there is no input to run the program on: give at least one batch")
    model = own_state(reference.module(check_guards=False))
    outputs = run(goal.loader, Lowered(program, delegates=0), samples, repeats_for(model))
    wanted = outputs_of(model, samples)
    _check_same_model(outputs, wanted)
    found = compare_all(outputs, wanted)
    judge(found, outputs, floor, REFERENCE, REMEDY)
    return Verification(goal.backend.runtime, len(samples), to_float=found)


def _check_same_model(outputs: Outputs, wanted: Outputs) -> None:
    try:
        check_alike(outputs, wanted)
    except VerificationError as error:
        raise VerificationError(f"{error}. {REMEDY}") from error
