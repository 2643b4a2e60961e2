"""How long programs take in the backend's runtime, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from qreg.errors import VerificationError
from qreg.inputs import cloned, flat

if TYPE_CHECKING:
    from qreg.model import Runner

ROUNDS, WARM_UP = 50, 5


@frozen
class Timing:
    """The latency of the float and the quantized program on one input, in milliseconds.

    Both were lowered for the same backend, and run in turns in one process. The latency is that
    below which the fastest tenth of the runs stays: what is slower waited for other processes.
    """

    float_milliseconds: float
    milliseconds: float
    rounds: int

    @property
    def ratio(self) -> float:
        """Below 1 where the quantized program is the faster one."""
        return self.milliseconds / self.float_milliseconds


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
    except Exception as cause:
        raise VerificationError(f"a program to be timed does not run: {cause}") from cause
    return [_tenth(times) for times in zip(*measured, strict=True)]


def _tenth(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=10)[0]


def _round(runners: Sequence[Runner], inputs: Sequence[torch.Tensor]) -> list[float]:
    times = []
    for run in runners:
        started = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - started)
    return times
