"""Loads a lowered program, runs it, and compares what it gives with the model it came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import evolve, field, frozen
from torch import Tensor
from torch.utils import _pytree as pytree

from qreg.errors import LoadError, NaNError, RunError, VerificationError
from qreg.inputs import cloned, flat
from qreg.mutation import changed_buffers, keeping_state
from qreg.noise import NEGLIGIBLE, Slice, decibels, signal_and_noise, worst_slice

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from qreg.drops import Drop
    from qreg.model import Lowered, Runner

Outputs = list[list[Tensor]]  # of each sample, flat
Verdict = Literal["good", "poor"]

# The least SQNR to float in dB, where noise has a third of the signal's amplitude. On trained
# weights in static int8, what is of use is above it: 14.4 dB for EfficientNet-Lite0 (83 % of the
# classes as in float), 17.3 for MiniLM by its recipe (cosine .99), 31 to 36 for five others (within
# 1 % of float). What is not is below: 6.7 dB for an OCR recogniser (7 points of its characters
# lost), 5.4 for MiniLM throughout (cosine .86), -7 for a classifier of raw tabular features
# (31 points lost).
MIN_SQNR = 10.0


@frozen
class OutputComparison:
    """How far one output of the program is from a reference, over all samples.

    ``sqnr`` is the signal-to-quantization-noise ratio in dB, ``10 log10(sum(ref**2) /
    sum((ref - out)**2))``, infinite where both are equal. ``max_difference`` and
    ``mean_difference`` are of the absolute differences of elements, in units of the output,
    ``cosine`` is that of the flattened tensors. ``agreement`` is the share of rows in which the
    largest value is at the same place, for floating-point outputs of shape (rows, classes); None
    for others. ``worst_slice`` is the slice along a channel axis with the least SQNR.
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

        An output of integers, such as a class, has no SQNR to judge.
        """
        if not self.floating_point or self.max_difference <= NEGLIGIBLE:
            return False
        part = self.worst_slice
        return is_far(self, least) or (part is not None and part.sqnr < least)


@frozen
class Verification:
    """The program was loaded in ``runtime`` and run on ``samples`` inputs.

    One comparison for each output: with the float model, and with the converted model that the
    program was lowered from, where that was at hand. The ``verdict`` is about the float model:
    ``"good"`` if each output and each of its slices reaches ``min_sqnr`` in dB, else ``"poor"``.
    ``drops`` are the operators that add most noise to a poor program, as far as they were looked
    for.
    """

    runtime: str
    samples: int
    to_float: tuple[OutputComparison, ...]
    to_converted: tuple[OutputComparison, ...] = ()
    min_sqnr: float = MIN_SQNR
    drops: tuple[Drop, ...] = ()
    verdict: Verdict = field(init=False)

    @verdict.default
    def _verdict(self) -> Verdict:
        return "poor" if self.poor else "good"

    @property
    def good(self) -> bool:
        """Whether the program is near enough to the float model."""
        return self.verdict == "good"

    @property
    def poor(self) -> list[int]:
        """The numbers of the outputs that are below ``min_sqnr``, or have a slice that is."""
        compared = enumerate(self.to_float)
        return [number for number, each in compared if each.is_below(self.min_sqnr)]

    @property
    def far(self) -> list[int]:
        """The numbers of the outputs that are below ``min_sqnr`` as a whole."""
        return [number for number in self.poor if is_far(self.to_float[number], self.min_sqnr)]

    @property
    def worst_sqnr(self) -> float | None:
        """The least SQNR to float of any output or slice in dB; None without such outputs."""
        found = [each for each in self.to_float if each.floating_point]
        parts = [each.worst_slice.sqnr for each in found if each.worst_slice]
        return min([*parts, *(each.sqnr for each in found)], default=None)


FLOOR = 20.0  # dB to the converted model; a program that runs right is above 35
DYNAMIC_FLOOR = 10.0  # a backend may choose the ranges of dynamic activations differently
SLACK = 3.0  # dB by which two right programs may differ in their distance from float
# The same where the converted model has as much noise as signal. Its noise is then that of a few
# values: measured on raw tabular features, right programs are up to 5 dB farther from float.
SLACK_IN_NOISE = 10.0


REPEATS = 2  # runs of the first sample again, to see whether the program is as it was before
STEADY = 60.0  # dB between two runs of one program on one sample, which differ by rounding at most


def run_program(
    load: Callable[[bytes], Runner],
    lowered: Lowered,
    samples: Sequence[Any],
    repeats: int = 0,
) -> Outputs:
    """Loads a program once and runs it on each sample, and ``repeats`` times more on the first.

    Raises ``VerificationError`` with the runtime's error as its cause if either fails; the suspects
    are what the backend left to the runtime's own kernels. Raises it also for a program that gives
    something else when it is run again, or changes what it is given, as programs do that compute
    in place where they should not.
    """
    left = sorted(set(lowered.outside))  # to the runtime's own kernels
    try:
        runner = load(lowered.program)
        outputs = [run_once(runner, lowered, sample) for sample in samples]
        again = [run_once(runner, lowered, samples[0]) for _ in range(repeats)]
    except (LoadError, RunError) as error:
        raise error.suspecting(*left) from error.__cause__
    except VerificationError:
        raise
    except Exception as cause:
        raise VerificationError(f"the lowered program does not run: {cause}.", left) from cause
    for number, found in enumerate(again, len(samples) + 1):
        _check_steady(number, outputs[0], found)
    return outputs


def run_once(runner: Runner, lowered: Lowered, sample: Any) -> list[Tensor]:
    """The outputs of one run, flat; the sample stays as it is, and so must what is run on."""
    given = [value.contiguous() for value in flat(cloned(sample))]
    with torch.no_grad():
        outputs = [output.clone() for output in _tensors(runner(given))]
    if not lowered.changed_inputs:
        _check_unchanged(flat(sample), given)
    return outputs[lowered.changed_inputs :]


def _check_unchanged(before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    for position, (one, other) in enumerate(zip(before, after, strict=True)):
        if not torch.allclose(one, other, rtol=0, atol=0, equal_nan=True):
            raise VerificationError(
                f"the program overwrites its input {position}, which the model leaves as it is"
            )


def _check_steady(number: int, first: Sequence[Tensor], again: Sequence[Tensor]) -> None:
    check_alike([list(again)], [list(first)])
    for position, found in enumerate(compare_all([list(again)], [list(first)])):
        if first[position].is_floating_point() and is_far(found, STEADY):
            raise VerificationError(
                f"output {position} of the program changes: at call {number} it is "
                f"{found.sqnr:.1f} dB from what the same input gave at the first call"
            )


def verify(
    load: Callable[[bytes], Runner],
    lowered: Lowered,
    samples: Sequence[tuple[Any, ...]],
    *,
    runtime: str,
    floor: float = FLOOR,
    min_sqnr: float = MIN_SQNR,
    float_model: Callable[..., Any],
    converted: Callable[..., Any],
) -> Verification:
    """Runs a program on samples and compares it with the float and the converted model.

    Raises ``VerificationError`` if it does not load, does not run, or gives outputs of another
    number or shape, NaN, or floating-point outputs that are closer to noise than ``floor`` (SQNR
    in dB to the converted model) and farther from float than the converted model's
    (:func:`is_as_close`). Raises it also if the program changes from call to call, as only one
    whose model keeps a state may. A program that is right and below ``min_sqnr`` to float is
    returned: its verdict says so.
    """
    outputs = run_program(load, lowered, samples, repeats_for(converted))
    to_float, to_converted = outputs_of(float_model, samples), outputs_of(converted, samples)
    check_alike(outputs, to_converted)
    found = Verification(
        runtime=runtime,
        samples=len(samples),
        to_float=compare_all(outputs, to_float),
        to_converted=compare_all(outputs, to_converted),
        min_sqnr=min_sqnr,
    )
    own = compare_all(to_converted, to_float)
    pairs = zip(found.to_float, own, strict=True)
    excused = {number for number, pair in enumerate(pairs) if is_as_close(*pair)}
    judge(found.to_converted, outputs, floor, excused=excused)
    return found


def is_as_close(program: OutputComparison, converted: OutputComparison) -> bool:
    """Whether an output of the program is as close to float as that of the converted model is.

    Noise that is large already takes two right programs apart at the first rounding that differs:
    a transformer in static int8 may be 10 dB from itself after a change of 1e-4 in one weight.
    What is wrong is farther from float than quantizing has brought it. Where the noise is as strong
    as the signal, a program that is wrong cannot be told from one that is quantized badly: it is
    the verdict against float that such an output does not pass.
    """
    slack = SLACK if converted.sqnr > SLACK else SLACK_IN_NOISE
    return math.isfinite(converted.sqnr) and program.sqnr >= converted.sqnr - slack


def repeats_for(model: object) -> int:
    """How often a program of this model is run again: not if the model keeps a state."""
    return 0 if changed_buffers(model) else REPEATS


def structured(outputs: Sequence[Tensor], model: GraphModule) -> Any:
    """Flat outputs of a program in the structure in which the model gives its own.

    They stay a tuple where the model also gives numbers or None, which programs leave out.
    """
    wanted = getattr(model.graph._codegen, "pytree_info", None)
    spec = wanted.out_spec if wanted else None
    if spec is None or spec.num_leaves != len(outputs):
        return tuple(outputs)
    return pytree.tree_unflatten(outputs, spec)


def outputs_of(model: Callable[..., Any], samples: Sequence[tuple[Any, ...]]) -> Outputs:
    """The flat output tensors of a model for each sample; samples and model stay as they are."""
    with torch.no_grad(), keeping_state(model):
        return [_tensors(model(*cloned(sample))) for sample in samples]


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors among some outputs; a model may also give numbers and None."""
    return [value for value in pytree.tree_leaves(outputs) if isinstance(value, Tensor)]


def check_alike(outputs: Outputs, references: Outputs) -> None:
    """Raises ``VerificationError`` for outputs of another number, shape or type, and for NaN."""
    for output, reference in zip(outputs, references, strict=True):
        for what, spelled in (("shapes", _shapes), ("types", _types)):
            got, wanted = spelled(output), spelled(reference)
            if got != wanted:
                raise VerificationError(
                    f"the program gives outputs of {what} {got}, expected {wanted}"
                )
        for position, tensor in enumerate(output):
            if tensor.isnan().any():
                raise NaNError(f"output {position} of the program is NaN in places")


def _shapes(tensors: Sequence[Tensor]) -> list[Any]:
    return [tuple(tensor.shape) for tensor in tensors]


def _types(tensors: Sequence[Tensor]) -> list[Any]:
    return [str(tensor.dtype).removeprefix("torch.") for tensor in tensors]


def judge(
    found: Sequence[OutputComparison],
    outputs: Outputs,
    floor: float,
    reference: str = "converted model",
    remedy: str = "",
    excused: Container[int] = (),
) -> None:
    """Raises ``VerificationError`` for a floating-point output that is mostly noise.

    ``excused`` are the numbers of outputs that may be.
    """
    for number, (each, output) in enumerate(zip(found, outputs[0], strict=True)):
        if number not in excused and output.is_floating_point() and is_far(each, floor):
            raise VerificationError(
                f"output {number} of the program is {each.sqnr:.1f} dB from the {reference}, "
                f"less than {floor:.0f}: it does not compute what the model says. {remedy}".rstrip()
            )


def is_far(found: OutputComparison, floor: float) -> bool:
    """Whether an output is closer to noise than ``floor`` in dB, and by more than rounding."""
    near = found.sqnr >= floor or found.max_difference <= NEGLIGIBLE
    return not near  # so that what is no number is far


def compare_all(outputs: Outputs, references: Outputs) -> tuple[OutputComparison, ...]:
    """One comparison for each output, over all samples."""
    pairs = zip(zip(*references, strict=True), zip(*outputs, strict=True), strict=True)
    return tuple(_compared(reference, output) for reference, output in pairs)


def _compared(references: Sequence[Tensor], outputs: Sequence[Tensor]) -> OutputComparison:
    return evolve(
        compare(_joined(references), _joined(outputs)),
        worst_slice=worst_slice(references, outputs),
        floating_point=all(reference.is_floating_point() for reference in references),
    )


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """The samples of one output as rows of one tensor, or flat where that cannot be."""
    rows = all(tensor.dim() == 2 for tensor in tensors)
    alike = rows and len({tensor.shape[1] for tensor in tensors}) == 1
    return torch.cat([(t if alike else t.reshape(-1)).double() for t in tensors])


def compare(reference: Tensor, output: Tensor) -> OutputComparison:
    """Compares two tensors of the same shape, in double precision."""
    signal, noise = signal_and_noise(reference, output)
    return OutputComparison(
        sqnr=decibels(float(signal.square().sum()), float(noise.square().sum())),
        max_difference=float(noise.max()) if noise.numel() else 0.0,
        mean_difference=float(noise.mean()) if noise.numel() else 0.0,
        cosine=_cosine(reference.double().reshape(-1), output.double().reshape(-1)),
        agreement=_agreement(reference, output),
    )


def _agreement(reference: Tensor, output: Tensor) -> float | None:
    is_rows = reference.dim() == 2 and reference.shape[1] > 1 and len(reference)
    if not is_rows or not reference.is_floating_point():
        return None
    return float((reference.argmax(1) == output.argmax(1)).double().mean())


def _cosine(reference: Tensor, output: Tensor) -> float:
    if torch.equal(reference, output):
        return 1.0
    return float(torch.nn.functional.cosine_similarity(reference, output, dim=0))
