"""Compares a lowered program, wherever it comes from, with a reference model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch.export import ExportedProgram

from qreg.errors import InputError, VerificationError
from qreg.graph.mutation import own_state
from qreg.pipeline.arguments import names_unknown
from qreg.plugins.registry import DEFAULT_BACKEND, Registry, installed
from qreg.plugins.types.program import Lowered
from qreg.programs.inputs import checked, input_specs
from qreg.programs.lowering import target
from qreg.verification.metrics import Outputs, compare_all, judge
from qreg.verification.runner import check_alike, outputs_of, repeats_for, run_program
from qreg.verification.verdict import IN_GENERAL, check_floor, check_min_sqnr, warn_if_poor
from qreg.verification.verify import MIN_SQNR, Verification

REFERENCE = "reference"
REMEDY = "Is the reference the model it was made from?"


@names_unknown
def verify(
    program: bytes,
    reference: ExportedProgram,
    inputs: Iterable[Any],
    *,
    backend: str = DEFAULT_BACKEND,
    min_sqnr: float = MIN_SQNR,
    floor: float | None = None,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    run: Callable[..., Outputs] = run_program,
) -> Verification:
    """Loads a program, runs it on inputs, and compares it with a reference.

    ``reference`` is the float model that the program was made from, or the converted one; the
    comparisons are in ``to_float``. ``inputs`` are batches in the forms that calibration accepts.
    ``min_sqnr`` is as for :func:`qreg.quantize`, and so is the verdict: a program that was returned
    there passes here, with the same :class:`~qreg.errors.QualityWarning` below ``min_sqnr``.
    ``floor``, in dB too, is for outputs that must not be used. None sets none: a program that
    quantizing has ruined is as far from its model as one of another model, and only who made it
    can tell.
    ``run`` is :func:`~qreg.verification.isolation.run_isolated` where the program may be damaged.

    Raises ``InputError`` for inputs that do not fit the reference, and ``VerificationError`` for a
    program that does not load or run, gives outputs of other shapes, gives NaN, or is less than
    ``floor`` dB from the reference.
    """
    check_min_sqnr(min_sqnr)
    if floor is not None:
        check_floor(floor)
    _check_given(program, reference)
    goal = target(registry or installed(), backend, options)
    samples = list(checked(inputs, input_specs(reference), "input batch"))
    if not samples:
        raise InputError("there is no input to run the program on: give at least one batch")
    model = own_state(reference.module(check_guards=False))
    outputs = run(goal.loader, Lowered(program, delegates=0), samples, repeats_for(model))
    wanted = outputs_of(model, samples)
    _check_same_model(outputs, wanted)
    compared = compare_all(outputs, wanted)
    if floor is not None:
        judge(compared, outputs, floor, REFERENCE, REMEDY)
    found = Verification(goal.backend.runtime, len(samples), compared, min_sqnr=min_sqnr)
    warn_if_poor(found, f"{REMEDY} {IN_GENERAL}" if _is_far_off(found) else "", REFERENCE)
    return found


def _check_given(program: object, reference: object) -> None:
    if not isinstance(program, bytes):
        raise InputError(
            f"program: it is a {type(program).__name__} (expected bytes). "
            "Read a file with pathlib.Path(path).read_bytes()."
        )
    if not isinstance(reference, ExportedProgram):
        raise InputError(
            f"reference: it is a {type(reference).__name__} (expected an ExportedProgram). "
            "Export the model in eval mode: torch.export.export(model.eval(), example_inputs)."
        )


def _is_far_off(found: Verification) -> bool:
    """Whether an output is so far from the reference that it may be that of another model."""
    return any(found.to_float[number].sqnr < MIN_SQNR for number in found.poor)


def _check_same_model(outputs: Outputs, wanted: Outputs) -> None:
    try:
        check_alike(outputs, wanted)
    except VerificationError as error:
        raise VerificationError(f"{error}. {REMEDY}") from error
