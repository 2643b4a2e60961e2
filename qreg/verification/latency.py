"""Latency of programs in the backend's runtime, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from qreg.errors import VerificationError
from qreg.inputs.specs import cloned, flat
from qreg.utils.wording import ALIKE

if TYPE_CHECKING:
    from qreg.plugins.types.backend import Runner


ROUNDS, WARM_UP = 50, 5


@frozen
class Timing:
    """The latency of the float and the quantized program on one input, in milliseconds.

    Both are lowered for the same backend and run in turns in one process. The latencies are
    computed by :func:`latency`.
    """

    float_milliseconds: float
    milliseconds: float
    rounds: int

    @property
    def ratio(self) -> float:
        """The latency of the quantized program divided by the float latency; below 1 is faster."""
        return self.milliseconds / self.float_milliseconds

    @property
    def is_slower(self) -> bool:
        """Whether the quantized program is slower by more than the noise of the measurement."""
        return self.milliseconds > ALIKE * self.float_milliseconds


def side_by_side(
    load: Callable[[bytes], Runner], programs: Sequence[bytes], sample: Any, rounds: int = ROUNDS
) -> list[float]:
    """Return the latency of each program on a sample in seconds; the programs run in turns.

    Raises ``VerificationError`` for a program that does not load or run.
    """
    return in_turns([(load, program) for program in programs], sample, rounds)


def in_turns(
    programs: Sequence[tuple[Callable[[bytes], Runner], bytes]], sample: Any, rounds: int = ROUNDS
) -> list[float]:
    """Return the latency of programs, each with its loader, as :func:`side_by_side`."""
    inputs = [value.contiguous() for value in flat(cloned(sample))]  # a program may change them
    try:
        runners = [load(program) for load, program in programs]
        with torch.no_grad():
            for _ in range(WARM_UP):
                _round(runners, inputs)
            measured = [_round(runners, inputs) for _ in range(rounds)]
    except VerificationError:
        raise
    except Exception as cause:  # raised by the runtime
        raise VerificationError(f"a program to be timed does not run: {cause}") from cause
    return [latency(times) for times in zip(*measured, strict=True)]


def latency(times: Sequence[float]) -> float:
    """Return the first decile of the times of runs; slower runs waited for other processes.

    The decile is interpolated between two runs, so with fewer than 11 runs it is near the fastest.
    """
    return sorted(times)[0] if len(times) == 1 else _tenth(times)


def _tenth(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=10, method="inclusive")[0]


def timed(run: Callable[[], object]) -> float:
    """Return the wall-clock time of one run in seconds."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _round(runners: Sequence[Runner], inputs: Sequence[torch.Tensor]) -> list[float]:
    return [timed(partial(run, inputs)) for run in runners]
