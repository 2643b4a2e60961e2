"""The batches that are kept while calibration data is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, field

Batch = tuple[Any, ...]

SAMPLES = 4  # the first batches, to verify the program with
MOST = 8  # batches that algorithms are run on, and batches that are held back
EVERY = 4  # of so many batches, one is held back, beginning with the second


@define
class Kept(Iterable[Batch]):
    """Iterate over batches once, and keep a few: to verify, to run algorithms on, and held back."""

    batches: Iterable[Batch]
    algorithms: bool = False  # whether any algorithm needs batches
    samples: list[Batch] = field(factory=list, init=False)
    fitting: list[Batch] = field(factory=list, init=False)
    held_back: list[Batch] = field(factory=list, init=False)
    is_holding_back: bool = field(default=False, init=False)  # the batch that was yielded last

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.batches):
            if number < SAMPLES:
                self.samples.append(batch)
            self.is_holding_back = number % EVERY == 1
            kept = self.held_back if self.is_holding_back else self.fitting
            if self.algorithms and len(kept) < MOST:
                kept.append(batch)
            yield batch
