"""What ``quantize`` returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.analysis.audit import Audit
from qreg.analysis.numerics import numerics as noise_of
from qreg.analysis.ranges import Range
from qreg.errors import InputError, QregError
from qreg.plugins.blame import call
from qreg.plugins.types.backend import Runner
from qreg.plugins.types.decision import Decision
from qreg.plugins.types.program import Lowered
from qreg.programs.export import export
from qreg.programs.inputs import checked, graph_input_specs
from qreg.programs.loading import write_program
from qreg.programs.lowering import Target
from qreg.report.operators import operators
from qreg.report.report import Report
from qreg.report.values import Operator, Sizes
from qreg.verification.latency import ROUNDS, Timing, side_by_side
from qreg.verification.runner import run_once, structured
from qreg.verification.verify import Verification

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision
    from qreg.report.report import Report


def report_of(
    result: Result, *, numerics: bool = False, timing: bool = False, profile: bool = False
) -> Report:
    """The report of a result; ``numerics``, ``timing``, ``profile`` as for :func:`explain`.

    What cannot be timed is said in the report's ``notes``.
    """
    found = result.audit
    noise = noise_of(result.reference, result.converted, result.samples) if numerics else ()
    listed = operators(
        result.reference, result.decisions, found.placements if found else None, noise
    )
    notes = list(result.notes)
    timed = None
    if profile:
        with _noted(notes, "times of operators"):
            listed = _profiled(result, listed)
    if timing:
        with _noted(notes, "latency"):
            timed = _timing(result)
    return Report(
        backend=result.backend,
        model=result.model,
        operators=listed,
        sizes=Sizes(result.parameter_bytes, len(result.program)),
        delegates=result.lowered.delegates,
        outside=result.lowered.outside,
        defects=tuple(each.node for each in found.defects) if found else (),
        splits=found.splits if found else (),
        conversions=found.conversions if found else (),
        ranges=tuple(result.ranges),
        verification=result.verification,
        runs_here=result.target.load is not None,
        timing=timed,
        notes=tuple(notes),
        seconds=result.seconds,
    )


def _profiled(result: Result, listed: Sequence[Operator]) -> tuple[Operator, ...]:
    """The operators with their times; what is fused has its time at the first of the pattern."""
    measure = result.target.backend.profile
    if measure is None:
        raise InputError(f"backend {result.backend!r} cannot time operators one by one")
    times = [
        call(result.target.supplied, "profile", measure, _exported(result, model), expected=Mapping)
        for model in (result.converted, result.reference)
    ]
    return tuple(
        evolve(each, microseconds=_time(each, times[0]), float_microseconds=_time(each, times[1]))
        for each in listed
    )


def _exported(result: Result, model: GraphModule) -> ExportedProgram:
    return export(model, result.samples[0], result.dynamic_shapes)


def _time(operator: Operator, seconds: Mapping[str, float]) -> float | None:
    names = operator.pattern or (operator.name,)
    found = [seconds[name] for name in names if name in seconds]
    return sum(found) * 1e6 if found and names[0] == operator.name else None


def _timing(result: Result) -> Timing:
    if result.target.backend.simulated:
        raise InputError(f"{result.target.backend.runtime} is a simulator: its times mean nothing")
    load = result.target.loader
    plain = result.target.lower(_exported(result, result.reference))
    programs = [plain.program, result.program]
    in_float, quantized = side_by_side(load, programs, result.samples[0])
    return Timing(1000 * in_float, 1000 * quantized, ROUNDS)


@contextmanager
def _noted(notes: list[str], what: str) -> Iterator[None]:
    """A measurement that fails leaves a note: the rest of the report took minutes to make."""
    try:
        yield
    except QregError as error:
        notes.append(f"no {what}: {error}")


@frozen
class Result:
    """A quantized program, and how it came about.

    ``program`` is in the format of the backend, ``converted`` the module that ``convert_pt2e``
    gave and that was lowered, ``reference`` the float graph with the operators that were decided
    on, ``samples`` the first of the calibration batches, ``dynamic_shapes`` those of the program,
    ``target`` the backend with the options that it was lowered with.
    ``audit`` is None if the program cannot be read back, ``verification`` if it was not run here:
    because it was not asked for, or because the backend only compiles. ``ranges`` are those that
    leave few codes to their values. ``parameter_bytes`` is the size of the float model's parameters
    and buffers. ``notes`` are for the report: what the processor means for the configs. ``seconds``
    has the time of each stage.
    """

    backend: str
    model: str
    lowered: Lowered
    decisions: Sequence[Decision] = field(repr=False)
    audit: Audit | None = field(repr=False)
    ranges: Sequence[Range] = field(repr=False)
    verification: Verification | None
    reference: GraphModule = field(repr=False)
    converted: GraphModule = field(repr=False)
    samples: Sequence[tuple[Any, ...]] = field(repr=False)
    dynamic_shapes: Any = field(repr=False)
    target: Target = field(repr=False)
    parameter_bytes: int = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)
    notes: Sequence[str] = ()
    _loaded: dict[str, Runner] = field(init=False, repr=False, eq=False, factory=dict)

    @property
    def program(self) -> bytes:
        return self.lowered.program

    @property
    def counts(self) -> Counter[str]:
        """How many operators run in ``int8`` and ``float``, as ``report.counts`` has them."""
        return self.report.counts

    @property
    def decided(self) -> Counter[str]:
        """How many operators are ``annotated``, ``shared`` and ``float`` by their Decisions.

        A Decision is what was requested; ``counts`` is what the program does.
        """
        return Counter(decision.status for decision in self.decisions)

    @property
    def report(self) -> Report:
        """What became of every operator and why; ``print`` it, or save it as JSON or HTML."""

        return report_of(self)

    def run(self, *inputs: Any) -> Any:
        """Runs the program as the model is called, and gives what the model would.

        It is loaded at the first call, with the options that it was verified with. The inputs stay
        as they are. Raises ``InputError`` for a backend that only compiles, and what its runtime
        raises for inputs that do not fit.
        """
        if "program" not in self._loaded:
            self._loaded["program"] = self.target.loader(self.program)
        (given,) = checked([inputs], graph_input_specs(self.converted.graph), "input")
        outputs = run_once(self._loaded["program"], self.lowered, given)
        return structured(outputs, self.converted)

    def save(self, path: str | Path) -> None:
        """Writes the program to a file, in full or not at all.

        A backend whose programs are several files writes the others beside it. Raises
        ``InputError`` if the path cannot be written, or has another suffix than the backend's
        programs.
        """
        write_program(self.target.supplied, Path(path), self.program)
