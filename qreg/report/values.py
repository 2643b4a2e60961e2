"""What a report holds: plain values, which are written as JSON and read without torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from qreg.analysis.audit import Split
    from qreg.analysis.ranges import Range
    from qreg.plugins.types.program import Conversion
    from qreg.verification.latency import Timing
    from qreg.verification.verify import Verification


SCHEMA = 1  # raised when a field changes its meaning or goes
TOLERANCE = 0.1  # the share by which two timings of one operator may differ


@frozen
class Operator:
    """One operator of the annotated graph, with all that is known of it.

    ``inputs`` are the names of the operators and model inputs that it reads. ``source`` is the line
    of the model that it comes from. ``macs`` are its multiply-accumulates; ``uncounted`` is the
    reason why they are not known, or not all. ``place`` says where the program runs it: ``"int8"``
    or ``"float"`` in a delegate, ``"outside"`` of all, ``"gone"`` where no kernel is left of it, or
    None where no program was made or it cannot be read. ``lowered_as`` is what the backend calls
    it, ``types`` the types of its tensors there. ``sqnr`` is the noise of its output against float
    in dB, ``microseconds`` the time it takes by itself in the program, with what it is fused with,
    ``float_microseconds`` that in the float program; None where these were not measured.
    """

    name: str
    operator: str
    module: str
    status: str
    reason: str
    annotator: str | None = None
    distribution: str | None = None
    config: str | None = None
    pattern: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None
    source: str | None = None
    macs: int = 0
    uncounted: str | None = None
    place: str | None = None
    lowered_as: str | None = None
    types: str | None = None
    delegate: int | None = None
    sqnr: float | None = None
    largest_difference: float | None = None
    microseconds: float | None = None
    float_microseconds: float | None = None

    @property
    def quantized(self) -> bool:
        return self.status != "float"

    @property
    def runs_in_int8(self) -> bool:
        """As the program says, or where there is none, as was decided."""
        return self.quantized if self.place is None else self.place == "int8"


@frozen
class Sizes:
    """Bytes: of the float model's parameters and buffers, and of the program.

    Tied parameters count once, and constants that were made in quantizing do not.
    """

    float_parameters: int
    program: int | None


@frozen
class ReportData:
    """What became of a model on its way to a backend.

    ``operators`` are in the order of the graph. ``defects`` are the names of operators that were to
    run in int8 and do not. ``verification`` and ``timing`` are None where nothing was run. Where no
    program was made, ``delegates`` is None, and what is read from one is empty. ``notes`` say what
    was asked for and could not be had. ``seconds`` has the time of each stage, by its name.
    ``runs_here`` is False for a backend that only compiles.
    """

    backend: str
    model: str
    operators: tuple[Operator, ...] = field(repr=False)
    sizes: Sizes
    delegates: int | None = None
    outside: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()
    conversions: tuple[Conversion, ...] = field(default=(), repr=False)
    ranges: tuple[Range, ...] = field(default=(), repr=False)
    verification: Verification | None = None
    runs_here: bool = True
    timing: Timing | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(factory=dict, repr=False)

    @property
    def configs(self) -> list[str]:
        """The configs that quantized operators got, in the order of the graph."""
        return list(dict.fromkeys(each.config for each in self.operators if each.config))

    @property
    def counts(self) -> Counter[str]:
        """How many operators run in ``int8`` and in ``float``, and how many are ``gone``.

        This is what the program does. ``Result.decided`` counts the Decisions, by their status.
        """
        return Counter(
            "gone" if each.place == "gone" else "int8" if each.runs_in_int8 else "float"
            for each in self.operators
        )

    @property
    def int8_share(self) -> float | None:
        """The share of counted multiply-accumulates that run in int8; None if there are none."""
        int8 = sum(each.macs for each in self.operators if each.runs_in_int8)
        return int8 / self.macs if self.macs else None

    @property
    def macs(self) -> int:
        """The multiply-accumulates of the program, as far as they are counted."""
        return sum(each.macs for each in self.operators)

    @property
    def uncounted(self) -> list[Operator]:
        """The operators with multiply-accumulates that are not known, or not all."""
        return [each for each in self.operators if each.uncounted]

    @property
    def worst(self) -> list[Operator]:
        """The operators whose noise was measured, the noisiest first."""
        measured = [(each.sqnr, each) for each in self.operators if each.sqnr is not None]
        return [each for _, each in sorted(measured, key=lambda pair: pair[0])]

    @property
    def slower(self) -> list[Operator]:
        """The operators that take longer in int8 than in float, what loses most first."""
        timed = [
            (each.microseconds - each.float_microseconds, each)
            for each in self.operators
            if each.runs_in_int8 and each.microseconds and each.float_microseconds
        ]
        lost = [pair for pair in timed if pair[0] > TOLERANCE * (pair[1].float_microseconds or 0)]
        return [each for _, each in sorted(lost, key=lambda pair: -pair[0])]

    @property
    def unverified(self) -> str:
        """Why there is no verification of the program."""
        if self.runs_here:
            return "not verified: the program was not run"
        return f"not run here: {self.backend} only compiles"

    @property
    def leftover(self) -> list[Conversion]:
        """Conversions that belong to no border of an int8 part."""
        return [each for each in self.conversions if each.is_leftover]


def plain(instance: Any, attribute: Any, value: Any) -> Any:
    """A value as JSON has it: for ``attrs.asdict``."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return dict(value) if isinstance(value, Mapping) else value
