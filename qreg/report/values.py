"""The values of a report, which are written as JSON and read without torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from qreg.report.sensitivity import Sensitivity, sensitivities

if TYPE_CHECKING:
    from qreg.algorithms.outcome import Outcome
    from qreg.analysis.audit import Split
    from qreg.analysis.ranges import Range
    from qreg.plugins.types.program import Conversion
    from qreg.verification.latency import Timing
    from qreg.verification.verify import Verification


SCHEMA = 1  # incremented when a field changes its meaning or is removed
TOLERANCE = 0.1  # the share by which two timings of one operator may differ


@frozen
class Operator:
    """One row of a report: an operator of the annotated graph.

    ``module``, ``operator`` and ``ordinal`` are its address for ``RegistryQuantizer.set_operator``.
    ``inputs`` are the names of the operators and model inputs that the operator reads. ``source``
    is the line of the model that it comes from. ``macs`` are its multiply-accumulates,
    ``float_macs`` those that a quantized operator computes in float: of an attention whose values
    are not quantized, the product of its weights and its values. ``uncounted`` is the reason why
    some or all of them are not known. ``place`` is where the
    program runs the operator: ``"int8"`` on quantized values, whose types ``precision`` names
    (``"int8"``, ``"int16"``, ``"a16w8"``, ``"w4"`` for weights alone), ``"float"`` in a delegate,
    ``"outside"`` if it is in float and not delegated, ``"gone"`` if it was eliminated, or None if
    no program was made or the program cannot be read. ``lowered_as`` is the backend's name for the
    operator, and ``types`` are the types of its tensors there. ``sqnr`` is the noise of its output
    against float in dB. ``isolated_sqnr`` is the SQNR of the model's outputs in dB if its pattern
    alone is quantized. ``microseconds`` is its time in the program, including the operators fused
    with it, and ``float_microseconds`` its time in the float program. ``constant_bytes`` is the
    size of its weights and other constants, with their scales, and ``float_bytes`` their size in
    the float model; a constant of several operators counts for the first. Values that were not
    measured are None.
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
    float_macs: int = 0
    uncounted: str | None = None
    place: str | None = None
    lowered_as: str | None = None
    types: str | None = None
    delegate: int | None = None
    sqnr: float | None = None
    largest_difference: float | None = None
    isolated_sqnr: float | None = None
    microseconds: float | None = None
    float_microseconds: float | None = None
    ordinal: int = 0
    float_bytes: float = 0
    constant_bytes: float | None = None
    precision: str | None = None

    @property
    def quantized(self) -> bool:
        return self.status != "float"

    @property
    def runs_in_int8(self) -> bool:
        """Whether the program runs the operator in int8; without a program, as decided."""
        return self.quantized if self.place is None else self.place == "int8"

    @property
    def int8_macs(self) -> int:
        """The multiply-accumulates that run in int8."""
        return self.macs - self.float_macs if self.runs_in_int8 else 0


@frozen
class Sizes:
    """Sizes in bytes of the float model's parameters and buffers, and of the program.

    Tied parameters count once. Constants that quantization adds do not count.
    """

    float_parameters: int
    program: int | None


@frozen
class Provenance:
    """What a program was made with.

    ``versions`` are those of the distributions, by name. ``options`` are the options of the
    backend. ``batches`` and ``data_sha256`` are the number of calibration batches and the SHA-256
    of their values; None without calibration data. ``recipe_sha256`` is that of the recipe; None
    if no program was made, or if a part of it cannot be in a recipe.
    """

    versions: Mapping[str, str]
    processor: str
    options: Mapping[str, str | int | float | bool] = field(factory=dict)
    batches: int | None = None
    data_sha256: str | None = None
    recipe_sha256: str | None = None


@frozen
class ReportData:
    """What happened to a model in the pipeline.

    ``operators`` are in the order of the graph. ``defects`` are the names of operators that were
    decided for int8 but do not run in int8. ``verification`` and ``timing`` are None if nothing was
    run. If no program was made, ``delegates`` is None and all values read from a program are empty.
    ``algorithms`` are the outcomes of the algorithms that were tried, in their order.
    ``notes`` are requests that could not be met, and effects of the processor. ``seconds`` is the
    time of each stage, by name. ``runs_here`` is False for a backend that only compiles.
    ``provenance`` is what the program was made with.
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
    algorithms: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(factory=dict, repr=False)
    provenance: Provenance | None = field(default=None, repr=False)

    @property
    def configs(self) -> list[str]:
        """The configs of the quantized operators, in the order of the graph."""
        return list(dict.fromkeys(each.config for each in self.operators if each.config))

    @property
    def counts(self) -> Counter[str]:
        """The numbers of operators that run in ``int8`` and in ``float``, and that are ``gone``.

        They describe the program. ``Result.decided`` counts the Decisions by status.
        """
        return Counter(
            "gone" if each.place == "gone" else "int8" if each.runs_in_int8 else "float"
            for each in self.operators
        )

    @property
    def precisions(self) -> list[str]:
        """The precisions of the operators that run quantized, the most frequent first."""
        running = (each.precision for each in self.operators if each.runs_in_int8)
        return [name for name, _ in Counter(filter(None, running)).most_common()] or ["int8"]

    @property
    def int8_share(self) -> float | None:
        """The share of counted multiply-accumulates that run in int8; None if there are none."""
        int8 = sum(each.int8_macs for each in self.operators)
        return int8 / self.macs if self.macs else None

    @property
    def macs(self) -> int:
        """The counted multiply-accumulates of the program."""
        return sum(each.macs for each in self.operators)

    @property
    def uncounted(self) -> list[Operator]:
        """The operators whose multiply-accumulates are not known, or only in part."""
        return [each for each in self.operators if each.uncounted]

    @property
    def worst(self) -> list[Operator]:
        """The operators whose noise was measured, the noisiest first."""
        measured = [(each.sqnr, each) for each in self.operators if each.sqnr is not None]
        return [each for _, each in sorted(measured, key=lambda pair: pair[0])]

    @property
    def sensitivity(self) -> tuple[Sensitivity, ...]:
        """The patterns by what each alone costs the outputs, the largest drop first.

        Empty if it was not measured.
        """
        return sensitivities(
            (each.pattern or (each.name,), each.module, each.isolated_sqnr)
            for each in self.operators
        )

    @property
    def slower(self) -> list[Operator]:
        """The operators that are slower in int8 than in float, the largest loss first."""
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
        """Conversions that are not on the border of an int8 part."""
        return [each for each in self.conversions if each.is_leftover]


def plain(instance: Any, attribute: Any, value: Any) -> Any:
    """Return a value in its JSON form, as a serializer for ``attrs.asdict``."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return dict(value) if isinstance(value, Mapping) else value
