"""Load a lowered program, run it, and compare its outputs with those of its models."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen

from qreg.utils.memory import return_freed
from qreg.verification.metrics import (
    OutputComparison,
    Outputs,
    compare_all,
    is_as_close,
    is_far,
    judge,
)
from qreg.verification.noise import NEGLIGIBLE
from qreg.verification.runner import check_alike, outputs_of, repeats_for, run_program

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.program import Lowered
    from qreg.verification.drops import Drop


Verdict = Literal["good", "poor"]

# The least SQNR to float in dB, where noise has a third of the signal's amplitude. On trained
# weights in static int8, useful models are above it: 14.4 dB for EfficientNet-Lite0 (83 % of the
# classes as in float), 17.3 for MiniLM by its recipe (cosine .99), 31 to 36 for five others (within
# 1 % of float). Useless ones are below it: 6.7 dB for an OCR recogniser (7 points of its characters
# lost), 5.4 for MiniLM throughout (cosine .86), -7 for a classifier of raw tabular features
# (31 points lost).
MIN_SQNR = 10.0


@frozen
class Verification:
    """The verification of a program that was loaded in ``runtime`` and run on ``samples`` inputs.

    ``to_float`` and ``to_converted`` have one comparison for each output: with the float model, and
    with the converted model that the program was lowered from, if that was available. The
    ``verdict`` is about the float model: ``"good"`` if each output and each of its slices reaches
    ``min_sqnr`` in dB, else ``"poor"``. ``drops`` are the operators that add the most noise to a
    poor program, if they were searched for.
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
        """Whether the program is close enough to the float model."""
        return self.verdict == "good"

    @property
    def poor(self) -> list[int]:
        """The numbers of the outputs that are below ``min_sqnr`` or have a slice below it."""
        compared = enumerate(self.to_float)
        return [number for number, each in compared if each.is_below(self.min_sqnr)]

    @property
    def far(self) -> list[int]:
        """The numbers of the outputs that are below ``min_sqnr`` as a whole."""
        return [number for number in self.poor if is_far(self.to_float[number], self.min_sqnr)]

    @property
    def worst_sqnr(self) -> float | None:
        """The lowest SQNR to float of any output or slice in dB; None if no output is float.

        Outputs that differ by rounding alone count as equal: if they are nearly zero, their ratio
        says nothing.
        """
        found = [each for each in self.to_float if each.floating_point]
        apart = [each for each in found if not each.max_difference <= NEGLIGIBLE]  # NaN is apart
        parts = [each.worst_slice.sqnr for each in apart if each.worst_slice]
        equal = [math.inf] if found else []
        return min([*parts, *(each.sqnr for each in apart), *equal], default=None)


FLOOR = 20.0  # dB to the converted model; a correct program is above 35
DYNAMIC_FLOOR = 10.0  # a backend may choose the ranges of dynamic activations differently


def floor_of(modes: Collection[str]) -> float:
    """Return the SQNR in dB to the converted model below which a program is an error."""
    return DYNAMIC_FLOOR if "dynamic" in modes else FLOOR


@frozen
class Expected:
    """The outputs of the float and of the converted model for some samples.

    A program is run again ``repeats`` times on the first sample, to check that it does not change.
    """

    samples: Sequence[tuple[Any, ...]]
    of_float: Outputs
    of_converted: Outputs
    repeats: int

    @classmethod
    def of_models(
        cls,
        float_model: Callable[..., Any],
        converted: Callable[..., Any],
        samples: Sequence[tuple[Any, ...]],
    ) -> Expected:
        """Run both models on the samples; neither is modified."""
        outputs = outputs_of(float_model, samples), outputs_of(converted, samples)
        return cls(samples, *outputs, repeats_for(converted))

    def verified(
        self,
        load: Callable[[bytes], Runner],
        lowered: Lowered,
        *,
        runtime: str,
        floor: float,
        min_sqnr: float,
        run: Callable[..., Outputs] = run_program,
    ) -> Verification:
        """Run a program on the samples, and compare it. Raises as :func:`verify`."""
        outputs = run(load, lowered, self.samples, self.repeats)
        return_freed()  # what the runtime packed the weights into
        wanted = self.of_float, self.of_converted
        return compared(outputs, *wanted, runtime=runtime, floor=floor, min_sqnr=min_sqnr)


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
    run: Callable[..., Outputs] = run_program,
) -> Verification:
    """Run a program on samples and compare it with the float and the converted model.

    ``run`` is :func:`~qreg.verification.isolation.run_isolated` for a runtime that may hang.

    Raises ``VerificationError`` if the program does not load or run, and as :func:`compared`.
    Raises it also if outputs change from call to call, which is allowed only for a model with
    state.
    """
    expected = Expected.of_models(float_model, converted, samples)
    return expected.verified(
        load, lowered, runtime=runtime, floor=floor, min_sqnr=min_sqnr, run=run
    )


def compared(
    outputs: Outputs,
    of_float: Outputs,
    of_converted: Outputs,
    *,
    runtime: str,
    floor: float,
    min_sqnr: float,
) -> Verification:
    """Compare the outputs of a program with those of the float and the converted model.

    A correct program below ``min_sqnr`` to float is not an error; its verdict is ``"poor"``.

    Raises ``VerificationError`` if the outputs differ in number or shape or contain NaN, or if a
    floating-point output is below ``floor`` (SQNR in dB to the converted model) and farther from
    float than the converted model's (:func:`is_as_close`).
    """
    check_alike(outputs, of_converted)
    found = Verification(
        runtime=runtime,
        samples=len(outputs),
        to_float=compare_all(outputs, of_float),
        to_converted=compare_all(outputs, of_converted),
        min_sqnr=min_sqnr,
    )
    own = compare_all(of_converted, of_float)
    pairs = zip(found.to_float, own, strict=True)
    excused = {number for number, pair in enumerate(pairs) if is_as_close(*pair)}
    judge(found.to_converted, outputs, floor, excused=excused)
    return found
