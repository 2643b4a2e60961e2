"""Run a marked program on a shard of the calibration data, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from qreg.graph.marks import seeing
from qreg.jobs.packing import packed, unpacked, unpacked_program
from qreg.observers.observation import Observation, Range
from qreg.programs.copying import module_of


@frozen
class Shard:
    """A marked program, what each mark observes, if anything, and the batches to run.

    ``program`` is what ``packed_program`` returned. ``batches`` are paths of files that ``packed``
    wrote, or their contents as bytes.
    """

    program: bytes
    observations: Sequence[Observation | None]
    batches: Sequence[Any]


@frozen
class Observed:
    """What each mark observed, as ``packed`` returns it, and the first batch with NaN, if any."""

    values: bytes
    count: int
    nan: int | None = None


def observed(shard: Shard) -> Observed:
    """Run the batches of a shard, and return what the marks observed.

    The shard is computed with one thread, because the sums of some operators depend on the number
    of threads. The run ends after a batch with NaN.
    """
    module = module_of(unpacked_program(shard.program))
    found: list[Any] = [None] * len(shard.observations)
    strange = False

    def see(number: int, value: Tensor) -> None:
        nonlocal strange
        observation = shard.observations[number]
        if observation is None:
            return
        found[number] = observation.updated(found[number], value)
        if isinstance(observation, Range) and found[number] is not None:
            strange = strange or bool(found[number][0].isnan().any())

    with torch.no_grad(), one_thread(), seeing(see):
        for number, batch in enumerate(shard.batches):
            module(*unpacked(batch if isinstance(batch, bytes) else batch.read_bytes()))
            if strange:
                return Observed(packed(found), number + 1, nan=number)
    return Observed(packed(found), len(shard.batches))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
