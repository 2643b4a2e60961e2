"""Loads a lowered program, runs it, and compares what it gives with the model it came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch.utils import _pytree as pytree

from qreg.errors import VerificationError
from qreg.inputs import cloned, flat

if TYPE_CHECKING:
    from qreg.model import Lowered, Runner


@frozen
class OutputComparison:
    """How far one output of the program is from a reference, over all samples.

    ``sqnr`` is the signal-to-quantization-noise ratio in dB, ``10 log10(sum(ref**2) /
    sum((ref - out)**2))``, infinite where both are equal. ``max_difference`` is the largest
    absolute difference of two elements, in units of the output, ``cosine`` that of the flattened
    tensors.
    """

    sqnr: float
    max_difference: float
    cosine: float


@frozen
class Verification:
    """The program was loaded in ``runtime`` and run on ``samples`` inputs.

    One comparison for each output: with the float model, and with the converted model that the
    program was lowered from.
    """

    runtime: str
    samples: int
    to_float: tuple[OutputComparison, ...]
    to_converted: tuple[OutputComparison, ...]


FLOOR = 20.0  # dB to the converted model; a program that runs right is above 35
DYNAMIC_FLOOR = 10.0  # a backend may choose the ranges of dynamic activations differently
NEGLIGIBLE = 1e-6  # differences that are rounding, whatever the signal is


def run_program(
    load: Callable[[bytes], Runner], lowered: Lowered, samples: Sequence[Any]
) -> list[list[torch.Tensor]]:
    """Loads a program once and runs it on each sample.

    Raises ``VerificationError`` with the runtime's error as its cause if either fails.
    """
    try:
        runner = load(lowered.program)
        with torch.no_grad():
            given = [list(runner([v.contiguous() for v in flat(cloned(s))])) for s in samples]
            return [outputs[lowered.changed_inputs :] for outputs in given]
    except Exception as cause:
        left = ", ".join(sorted(set(lowered.outside)))
        suspects = f" Suspects, which the backend left to the runtime: {left}." if left else ""
        raise VerificationError(f"the lowered program does not run: {cause}.{suspects}") from cause


def verify(
    load: Callable[[bytes], Runner],
    lowered: Lowered,
    samples: Sequence[tuple[Any, ...]],
    *,
    runtime: str,
    floor: float = FLOOR,
    float_model: Callable[..., Any],
    converted: Callable[..., Any],
) -> Verification:
    """Runs a program on samples and compares it with the float and the converted model.

    Raises ``VerificationError`` if it does not load, does not run, or gives outputs of another
    number or shape, NaN where the converted model gives none, or floating-point outputs that are
    closer to noise than ``floor`` (SQNR in dB to the converted model).
    """
    outputs = run_program(load, lowered, samples)
    references = {
        "float": [_outputs(float_model, sample) for sample in samples],
        "converted": [_outputs(converted, sample) for sample in samples],
    }
    _check(outputs, references["converted"])
    found = Verification(
        runtime=runtime,
        samples=len(samples),
        to_float=_compare_all(outputs, references["float"]),
        to_converted=_compare_all(outputs, references["converted"]),
    )
    _judge(found, outputs[0], floor)
    return found


def _judge(found: Verification, outputs: Sequence[torch.Tensor], floor: float) -> None:
    for number, (each, output) in enumerate(zip(found.to_converted, outputs, strict=True)):
        far = each.sqnr < floor and each.max_difference > NEGLIGIBLE
        if output.is_floating_point() and far:
            raise VerificationError(
                f"output {number} of the program is {each.sqnr:.1f} dB from the converted model, "
                f"less than {floor:.0f}: the backend does not compute what the model says. "
                "Keep the operators that differ in float, or get the program with verify=False."
            )


def _outputs(model: Callable[..., Any], sample: tuple[Any, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        return pytree.tree_leaves(model(*cloned(sample)))


def _check(outputs: list[list[torch.Tensor]], references: list[list[torch.Tensor]]) -> None:
    for output, reference in zip(outputs, references, strict=True):
        got = [tuple(tensor.shape) for tensor in output]
        wanted = [tuple(tensor.shape) for tensor in reference]
        if got != wanted:
            raise VerificationError(f"the program gives outputs of shapes {got}, expected {wanted}")
        for position, (tensor, wanted_tensor) in enumerate(zip(output, reference, strict=True)):
            if tensor.isnan().any() and not wanted_tensor.isnan().any():
                raise VerificationError(f"output {position} of the program is NaN in places")


def _compare_all(
    outputs: list[list[torch.Tensor]], references: list[list[torch.Tensor]]
) -> tuple[OutputComparison, ...]:
    pairs = zip(zip(*references, strict=True), zip(*outputs, strict=True), strict=True)
    return tuple(compare(_joined(reference), _joined(output)) for reference, output in pairs)


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1).double() for tensor in tensors])


def compare(reference: torch.Tensor, output: torch.Tensor) -> OutputComparison:
    """Compares two tensors of the same shape, in double precision."""
    reference, output = reference.double().reshape(-1), output.double().reshape(-1)
    noise = reference - output
    return OutputComparison(
        sqnr=_decibels(float(reference.square().sum()), float(noise.square().sum())),
        max_difference=float(noise.abs().max()) if noise.numel() else 0.0,
        cosine=_cosine(reference, output),
    )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _cosine(reference: torch.Tensor, output: torch.Tensor) -> float:
    if torch.equal(reference, output):
        return 1.0
    return float(torch.nn.functional.cosine_similarity(reference, output, dim=0))
