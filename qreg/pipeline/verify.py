"""Compare a lowered program from any source with a reference model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.analysis.failing import naming_failure
from qreg.errors import InputError, VerificationError
from qreg.graph.mutation import own_state
from qreg.inputs.batches import Transform, check_batches, checked, transformed
from qreg.inputs.signature import Signature
from qreg.pipeline.arguments import public_function
from qreg.plugins.registry import DEFAULT_BACKEND, Registry, installed
from qreg.plugins.types.program import Lowered
from qreg.programs.copying import module_of
from qreg.programs.loading import read_lowered
from qreg.programs.lowering import Target, target
from qreg.programs.training import check_eval
from qreg.utils.wording import a_type
from qreg.verification.metrics import OutputComparison, Outputs, compare_all, judge
from qreg.verification.runner import check_alike, outputs_of, repeats_for, run_program
from qreg.verification.verdict import IN_GENERAL, check_floor, check_min_sqnr, warn_if_poor
from qreg.verification.verify import MIN_SQNR, Verification

BATCH = "input batch"
REFERENCE = "reference"
REMEDY = "Is the reference the model that the program was made from?"


@public_function
def verify(
    program: bytes | str | Path,
    reference: ExportedProgram,
    inputs: Iterable[Any],
    *,
    method: str | None = None,
    transform: Callable[[Any], Any] | None = None,
    backend: str = DEFAULT_BACKEND,
    min_sqnr: float = MIN_SQNR,
    floor: float | None = None,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    run: Callable[..., Outputs] = run_program,
) -> Verification:
    """Load a program, run it on inputs, and compare it with a reference.

    Args:
        program: the bytes of the program, or the path of its file.
        reference: the float model that the program was made from, or the converted model. The
            comparisons are in ``to_float``.
        inputs: batches in the forms that calibration accepts.
        method: the name of the method to run, of a program with several.
        transform: a function from a batch to the inputs of the reference, as for
            :func:`qreg.quantize`.
        backend: the name of the backend whose runtime runs the program.
        min_sqnr: as for :func:`qreg.quantize`, with the same verdict. A program that was returned
            there passes here, with the same :class:`~qreg.errors.QualityWarning` below
            ``min_sqnr``.
        floor: the SQNR in dB below which an output is an error. None sets no floor: a program that
            was ruined by quantization is as far from its reference as a program of another model,
            and cannot be distinguished from it here.
        options: the options of the backend by name; ``qreg ops`` lists them.
        registry: the registry to use instead of that of the installed plugins.
        run: :func:`~qreg.verification.isolation.run_isolated` for a program that may be damaged.

    Returns:
        The comparisons of the outputs, and the verdict.

    Raises:
        InputError: the inputs do not fit the reference, it was exported in training mode, or the
            file cannot be read.
        VerificationError: the program does not load or run, its outputs have other shapes, contain
            NaN, or are below ``floor``.
    """
    check_min_sqnr(min_sqnr)
    if floor is not None:
        check_floor(floor)
    _check_given(program, reference)
    goal = target(registry or installed(), backend, options).of_method(method)
    lowered = Lowered(_read(program, goal), delegates=0)
    samples = _samples(inputs, transform, reference)
    model = own_state(module_of(reference))
    try:
        outputs = run(goal.loader, lowered, samples, repeats_for(model))
    except VerificationError:
        _check_reference(model, samples)
        raise
    compared = _compared(outputs, outputs_of(model, samples), floor)
    found = Verification(goal.backend.runtime, len(samples), compared, min_sqnr=min_sqnr)
    warn_if_poor(found, f"{REMEDY} {IN_GENERAL}" if _is_far_off(found) else "", REFERENCE)
    return found


def _check_given(program: object, reference: object) -> None:
    if not isinstance(program, (bytes, str, Path)):
        raise InputError(
            f"program: it is {a_type(program)} (expected bytes, or the path of a file). "
            "Pass result.program."
        )
    if not isinstance(reference, ExportedProgram):
        raise InputError(
            f"reference: it is {a_type(reference)} (expected an ExportedProgram). "
            "Export the model in eval mode: torch.export.export(model.eval(), example_inputs)."
        )
    check_eval(reference)


def _read(program: bytes | str | Path, goal: Target) -> bytes:
    return program if isinstance(program, bytes) else read_lowered(goal.supplied, Path(program))


def _samples(
    inputs: Iterable[Any], transform: Transform | None, reference: ExportedProgram
) -> list[Any]:
    check_batches(inputs, "inputs")
    signature = Signature.of_program(reference)
    samples = list(checked(transformed(inputs, transform), signature, BATCH))
    if not samples:
        raise InputError("inputs: no batch (expected at least one)")
    return samples


def _check_reference(model: GraphModule, samples: Iterable[Any]) -> None:
    """Raise ``CalibrationError`` for a sample that the reference does not run on either."""
    for number, sample in enumerate(samples):
        with naming_failure(model, sample, number, BATCH):
            outputs_of(model, [sample])


def _compared(
    outputs: Outputs, wanted: Outputs, floor: float | None
) -> tuple[OutputComparison, ...]:
    try:
        check_alike(outputs, wanted)
    except VerificationError as error:
        raise VerificationError(f"{error}. {REMEDY}") from error
    compared = compare_all(outputs, wanted)
    if floor is not None:
        judge(compared, outputs, floor, REFERENCE, REMEDY)
    return compared


def _is_far_off(found: Verification) -> bool:
    """Whether an output is so far from the reference that it may be that of another model."""
    return any(found.to_float[number].sqnr < MIN_SQNR for number in found.poor)
