"""How long programs take in the backend's runtime, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from qreg.errors import VerificationError
from qreg.programs.inputs import cloned, flat
from qreg.utils.wording import ALIKE

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner


ROUNDS, WARM_UP = 50, 5


@frozen
class Timing:
    """The latency of the float and the quantized program on one input, in milliseconds.

    Both were lowered for the same backend, and run in turns in one process. A latency is that of
    :func:`latency`.
    """

    float_milliseconds: float
    milliseconds: float
    rounds: int

    @property
    def ratio(self) -> float:
        """The latency of the quantized program in that of the float one; below 1 it is faster."""
        return self.milliseconds / self.float_milliseconds

    @property
    def is_slower(self) -> bool:
        """Whether the quantized program takes longer, by more than two measurements of one do."""
        return self.milliseconds > ALIKE * self.float_milliseconds


def side_by_side(
    load: Callable[[bytes], Runner], programs: Sequence[bytes], sample: Any, rounds: int = ROUNDS
) -> list[float]:
    """The seconds of each program on a sample, as in :class:`Timing`; they take turns.

    Raises ``VerificationError`` for a program that does not load or run.
    """
    inputs = [value.contiguous() for value in flat(cloned(sample))]  # a program may change them
    try:
        runners = [load(program) for program in programs]
        with torch.no_grad():
            for _ in range(WARM_UP):
                _round(runners, inputs)
            measured = [_round(runners, inputs) for _ in range(rounds)]
    except VerificationError:
        raise
    except Exception as cause:
        raise VerificationError(f"a program to be timed does not run: {cause}") from cause
    return [latency(times) for times in zip(*measured, strict=True)]


def latency(times: Sequence[float]) -> float:
    """The time that the fastest tenth of the runs stay below: what is slower waited for others.

    It is interpolated between two runs, so that with less than 11 it is near the fastest.
    """
    return sorted(times)[0] if len(times) == 1 else _tenth(times)


def _tenth(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=10, method="inclusive")[0]


def timed(run: Callable[[], object]) -> float:
    """The seconds that one run takes, by the wall clock."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _round(runners: Sequence[Runner], inputs: Sequence[torch.Tensor]) -> list[float]:
    return [timed(partial(run, inputs)) for run in runners]
