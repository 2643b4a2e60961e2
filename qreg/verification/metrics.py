"""Metrics for the distance of a program's outputs from a reference."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

import torch
from attrs import define, frozen
from torch import Tensor

from qreg.errors import VerificationError
from qreg.verification.noise import NEGLIGIBLE, Slice, Tally

Outputs = list[list[Tensor]]  # of each sample, flat


@frozen
class OutputComparison:
    """How far one output of the program is from a reference, over all samples.

    ``sqnr`` is the signal-to-quantization-noise ratio in dB, ``10 log10(sum(ref**2) /
    sum((ref - out)**2))``, infinite where both are equal. ``max_difference`` and
    ``mean_difference`` are the maximum and mean of the absolute differences of elements, in units
    of the output. ``cosine`` is the cosine similarity of the flattened tensors. ``agreement`` is
    the share of rows with the largest value at the same place, for floating-point outputs of shape
    (rows, classes); None for other outputs. ``worst_slice`` is the slice along a channel axis with
    the lowest SQNR.
    """

    sqnr: float
    max_difference: float
    mean_difference: float
    cosine: float
    agreement: float | None = None
    worst_slice: Slice | None = None
    floating_point: bool = True

    def is_below(self, least: float) -> bool:
        """Whether the output or its worst slice is below an SQNR in dB, by more than rounding.

        Always False for an output of integers, such as a class, which has no meaningful SQNR.
        """
        if not self.floating_point or self.max_difference <= NEGLIGIBLE:
            return False
        part = self.worst_slice
        return is_far(self, least) or (part is not None and part.sqnr < least)


SLACK = 3.0  # dB by which two correct programs may differ in their distance from float
# The same where the converted model has as much noise as signal. A few values then dominate the
# noise: measured on raw tabular features, correct programs are up to 5 dB farther from float.
SLACK_IN_NOISE = 10.0


def is_as_close(program: OutputComparison, converted: OutputComparison) -> bool:
    """Whether an output of the program is as close to float as that of the converted model.

    Under strong noise, two correct programs diverge at the first rounding that differs: a
    transformer in static int8 may be 10 dB from itself after a change of 1e-4 in one weight. A
    wrong program is farther from float than quantization explains. If the noise is as strong as the
    signal, a wrong program cannot be distinguished from a badly quantized one; such an output fails
    the verdict against float instead.
    """
    slack = SLACK if converted.sqnr > SLACK else SLACK_IN_NOISE
    return math.isfinite(converted.sqnr) and program.sqnr >= converted.sqnr - slack


def judge(
    found: Sequence[OutputComparison],
    outputs: Outputs,
    floor: float,
    reference: str = "converted model",
    remedy: str = "",
    excused: Container[int] = (),
) -> None:
    """Raise ``VerificationError`` for a floating-point output below ``floor`` (SQNR in dB).

    ``excused`` are the numbers of outputs that are not judged.
    """
    for number, (each, output) in enumerate(zip(found, outputs[0], strict=True)):
        if number not in excused and output.is_floating_point() and is_far(each, floor):
            raise VerificationError(
                f"output {number} of the program is {each.sqnr:.1f} dB from the {reference}, "
                f"less than {floor:.0f}: it does not match the {reference}. {remedy}".rstrip()
            )


def is_far(found: OutputComparison, floor: float) -> bool:
    """Whether an output is below ``floor`` (SQNR in dB), by more than rounding."""
    near = found.sqnr >= floor or found.max_difference <= NEGLIGIBLE
    return not near  # so that NaN counts as far


def compare_all(outputs: Outputs, references: Outputs) -> tuple[OutputComparison, ...]:
    """Return one comparison for each output, over all samples."""
    pairs = zip(zip(*references, strict=True), zip(*outputs, strict=True), strict=True)
    return tuple(_compared(reference, output) for reference, output in pairs)


def compare(reference: Tensor, output: Tensor) -> OutputComparison:
    """Compare two tensors of the same shape in double precision."""
    return _compared([reference], [output])


def _compared(references: Sequence[Tensor], outputs: Sequence[Tensor]) -> OutputComparison:
    """Compare sample by sample: together, the outputs of a language model are as large as it is."""
    tally, angle = Tally(), _Angle()
    for reference, output in zip(references, outputs, strict=True):
        tally.add(reference, output)
        angle.add(reference, output)
    return OutputComparison(
        sqnr=tally.sqnr,
        max_difference=tally.largest,
        mean_difference=tally.total / max(1, tally.elements),
        cosine=angle.cosine,
        agreement=_agreement(references, outputs),
        worst_slice=tally.worst_slice,
        floating_point=all(reference.is_floating_point() for reference in references),
    )


def _agreement(references: Sequence[Tensor], outputs: Sequence[Tensor]) -> float | None:
    if not all(each.dim() == 2 and each.is_floating_point() for each in references):
        return None
    columns = {each.shape[1] for each in references}
    if len(columns) > 1 or min(columns) < 2 or not sum(map(len, references)):
        return None
    pairs = zip(references, outputs, strict=True)
    same = torch.cat([one.argmax(1) == other.argmax(1) for one, other in pairs])
    return float(same.double().mean())


@define
class _Angle:
    """The sums that make the cosine of the angle between all samples of two tensors."""

    equal: bool = True
    product: float = 0.0
    squares: float = 0.0
    output_squares: float = 0.0

    def add(self, reference: Tensor, output: Tensor) -> None:
        self.equal = self.equal and torch.equal(reference, output)
        one, other = reference.double().reshape(-1), output.double().reshape(-1)
        self.product += float(one @ other)
        self.squares += float(one @ one)
        self.output_squares += float(other @ other)

    @property
    def cosine(self) -> float:
        """The cosine similarity, 0 where a tensor is all zeros."""
        if self.equal:
            return 1.0
        norm = math.sqrt(self.squares) * math.sqrt(self.output_squares)
        return self.product / norm if norm else 0.0
