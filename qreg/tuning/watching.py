"""What ``evaluate`` does with the model that it gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, field

from qreg.inputs.fingerprint import hash_of


@define
class Watched:
    """Counts the inputs that a model is called with, and those of them in the calibration data."""

    calibration: Sequence[tuple[Any, ...]]
    calls: int = field(default=0, init=False)
    known: int = field(default=0, init=False)
    _hashes: frozenset[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._hashes = frozenset(map(hash_of, self.calibration))

    def add(self, inputs: tuple[Any, ...]) -> None:
        """Count the inputs of a call."""
        self.calls += 1
        self.known += hash_of(inputs) in self._hashes

    def notes(self) -> Iterator[str]:
        """Yield what makes the metric say less than it should."""
        if not self.calls:
            yield (
                "evaluate did not call the float model that it got, so that its metric may be that "
                "of another model (expected it to call its argument)"
            )
        if self.known:
            yield (
                f"{self.known} of the {self.calls} inputs that evaluate passes to the model are "
                "calibration data, on which programs may be better than on new data (expected "
                "data that were held back)"
            )
