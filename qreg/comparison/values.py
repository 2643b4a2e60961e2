"""What a comparison says of each backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from qreg.verification.verify import Verdict

FLOAT = "float"  # the model itself, in torch


@frozen
class Entry:
    """What one backend made of the model, or why it made nothing.

    ``sqnr_to_float`` and ``sqnr_to_converted`` are in dB, of the worst output: the program against
    the float model, and against the converted model that it was lowered from. ``verdict`` is
    ``"good"`` or ``"poor"``, as in :class:`~qreg.verification.verify.Verification`. ``bytes`` is
    the size of the program, ``milliseconds`` its latency as in
    :class:`~qreg.verification.latency.Timing`, ``int8_share`` the share of multiply-accumulates
    that the program runs in int8, ``operators`` and ``int8_operators`` count those of the annotated
    graph. ``threads`` is None where the runtime
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
