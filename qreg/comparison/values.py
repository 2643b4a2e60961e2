"""The results of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from qreg.report.report import Report
    from qreg.verification.verify import Verdict

FLOAT = "float"  # the model itself, in torch


@frozen
class Entry:
    """The results of one backend, or the reason for its failure.

    ``sqnr_to_float`` and ``sqnr_to_converted`` compare the program with the float model, and with
    the converted model that the program was lowered from. Both are in dB, of the worst output.
    ``verdict`` is ``"good"`` or ``"poor"``, as in
    :class:`~qreg.verification.verify.Verification`. ``bytes`` is the size of the program.
    ``milliseconds`` is its latency, as in :class:`~qreg.verification.latency.Timing`.
    ``int8_share`` is the share of multiply-accumulates that the program runs in int8.
    ``operators`` and ``int8_operators`` count operators of the annotated graph. ``threads`` is
    None if the runtime decides. Unknown values are None: if the program does not run here, if the
    runtime is a simulator, or if the backend failed with the reason in ``failure``. ``report`` is
    that of the program, which the JSON of a comparison leaves out.
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
    report: Report | None = field(default=None, repr=False)

    @property
    def works(self) -> bool:
        return self.failure is None

    @property
    def runs(self) -> bool:
        """Whether the program of the backend was loaded and run; the float model always is."""
        ran = (self.sqnr_to_float, self.milliseconds) != (None, None)
        return self.works and (self.backend == FLOAT or ran)


@frozen
class ComparisonData:
    """An entry for the float model in torch, followed by one entry for each backend.

    The programs ran ``rounds`` turns on the same input, each in a separate process with
    ``threads`` threads; None: the runtimes decided.
    """

    model: str
    rounds: int
    threads: int | None
    entries: tuple[Entry, ...] = field(repr=False)
