"""What a comparison says of each backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import field, frozen

from qreg.files import write_atomically
from qreg.report import plain

if TYPE_CHECKING:
    from qreg.verification import Verdict

FLOAT = "float"  # the model itself, in torch


@frozen
class Entry:
    """What one backend made of the model, or why it made nothing.

    ``sqnr_to_float`` and ``sqnr_to_converted`` are in dB, of the worst output: the program against
    the float model, and against the converted model that it was lowered from. ``verdict`` is
    ``"good"`` or ``"poor"``, as in :class:`~qreg.verification.Verification`. ``bytes`` is the size
    of the program, ``milliseconds`` its latency as in :class:`~qreg.timing.Timing`, ``int8_share``
    the share of multiply-accumulates that the program runs in int8, ``operators`` and
    ``int8_operators`` count those of the annotated graph. ``threads`` is None where the runtime
    chose. What is not known is None: where nothing runs here, where the runtime is a simulator,
    and where ``failure`` says why.
    """

    backend: str
    config: str | None = None
    runtime: str = ""
    failure: str | None = None
    sqnr_to_float: float | None = None
    sqnr_to_converted: float | None = None
    verdict: Verdict | None = None
    cosine: float | None = None
    bytes: int | None = None
    milliseconds: float | None = None
    threads: int | None = None
    int8_share: float | None = None
    operators: int | None = None
    int8_operators: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        return self.failure is None

    @property
    def runs(self) -> bool:
        """Whether its program was loaded and run."""
        return self.works and (self.sqnr_to_float, self.milliseconds) != (None, None)


@frozen
class ComparisonData:
    """One entry for each backend, after that of the float model in torch.

    The programs took ``rounds`` turns on the same input, each in a process of its own, with
    ``threads`` threads each; None left the number to the runtimes.
    """

    model: str
    rounds: int
    threads: int | None
    entries: tuple[Entry, ...] = field(repr=False)


@frozen
class Comparison(ComparisonData):
    """A comparison, as it is written: as text, JSON or a page."""

    def as_dict(self) -> dict[str, Any]:
        """In plain values; numbers that JSON does not know (infinity) are None."""
        plainly = attrs.asdict(self, value_serializer=plain)
        for entry, listed in zip(self.entries, plainly["entries"], strict=True):
            listed["loads"] = entry.runs
        return plainly

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def save_html(self, path: str | Path) -> None:
        """Write a page with bars and tables that needs no network, in full or not at all."""
        from qreg.comparison.page import render

        write_atomically(Path(path), render(self).encode())

    def __str__(self) -> str:
        from qreg.comparison.text import text

        return text(self)
