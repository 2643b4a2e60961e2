"""The result of ``quantize``, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from attrs import evolve, field, frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.algorithms.outcome import Outcome
from qreg.analysis.audit import Audit
from qreg.analysis.numerics import numerics as noise_of
from qreg.analysis.ranges import Range
from qreg.analysis.sensitivity import PatternNoise
from qreg.analysis.sensitivity import sensitivity as sensitivity_of
from qreg.bundles.writing import Content
from qreg.errors import ConfigError, InputError, QregError
from qreg.graph.boundary import Boundary
from qreg.graph.nodes import called
from qreg.inputs.batches import BY_HAND, called_with, placed
from qreg.inputs.program_signature import ProgramSignature
from qreg.inputs.quantized_io import FLOAT, IO, in_integers, taking_integers
from qreg.inputs.signature import Signature
from qreg.pipeline import cached
from qreg.plugins.blame import call
from qreg.plugins.processor import described
from qreg.plugins.types.backend import Runner
from qreg.plugins.types.decision import Decision
from qreg.plugins.types.program import Lowered
from qreg.programs.copying import copied
from qreg.programs.export import export_again
from qreg.programs.loading import write_program
from qreg.programs.lowering import Target
from qreg.programs.tensors_only import tensors_only
from qreg.quantizer.registry_quantizer import RegistryQuantizer
from qreg.recipes.quantizers import recipe_of
from qreg.recipes.recipe import Recipe
from qreg.recipes.record import Record
from qreg.recipes.values import Named
from qreg.recipes.versions import versions_for
from qreg.report.cautions import some
from qreg.report.operators import operators
from qreg.report.report import Report
from qreg.report.values import Operator, Provenance, Sizes
from qreg.verification.latency import ROUNDS, Timing, in_turns
from qreg.verification.runner import run_once, structured
from qreg.verification.verify import MIN_SQNR, Verification, floor_of

STATIC_IS_FASTER = (
    "the program computes the range of each activation when it runs, because the config is "
    "dynamic. Try a static config, whose ranges come from the calibration data."
)


def report_of(
    result: Result,
    *,
    numerics: bool = False,
    sensitivity: bool = False,
    timing: bool = False,
    profile: bool = False,
) -> Report:
    """Return the report of a result; the keywords are those of :func:`explain`.

    Measurements that fail are listed in the report's ``notes``.
    """
    found = result.audit
    noise = noise_of(result.reference, result.converted, result.samples) if numerics else ()
    notes = list(result.notes)
    isolated: Sequence[PatternNoise] = ()
    if sensitivity:
        with _noted(notes, "sensitivity"):
            isolated = _isolated(result, notes)
    placements = found.placements if found else None
    listed = operators(
        result.reference, result.decisions, placements, noise, isolated, result.converted
    )
    timed = None
    float_program = cache(partial(_exported, result, result.reference))
    if profile:
        with _noted(notes, "times of operators"):
            listed = _profiled(result, listed, float_program)
    if timing:
        with _noted(notes, "latency"):
            timed = _timing(result, float_program)
    if timed and timed.is_slower and _computes_ranges(result.converted):
        notes.append(STATIC_IS_FASTER)
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
        algorithms=tuple(result.algorithms),
        notes=tuple(notes),
        seconds=result.seconds,
        provenance=_provenance(result),
    )


def _provenance(result: Result) -> Provenance:
    target, made = result.target, result.made
    found = Provenance(versions_for(target.registry, target.name), described(), target.options)
    if made is None:
        return found
    data = made.record.data
    return evolve(
        found,
        batches=data.batches if data else None,
        data_sha256=data.sha256 if data else None,
        recipe_sha256=made.digest,
    )


def _isolated(result: Result, notes: list[str]) -> Sequence[PatternNoise]:
    """Return the noise of each pattern alone, and note the patterns for which it is not known."""
    measured = sensitivity_of(result.reference, result.converted, result.decisions, result.samples)
    unknown = [each.pattern[0] for each in measured if each.sqnr is None]
    if unknown:
        notes.append(f"sensitivity: no gradient of the outputs reaches {some(unknown)}")
    return measured


def _profiled(
    result: Result, listed: Sequence[Operator], float_program: Callable[[], ExportedProgram]
) -> tuple[Operator, ...]:
    """Return the operators with their times; a fused pattern has its time at its first operator."""
    measure = result.target.backend.profile
    if measure is None:
        raise InputError(f"backend {result.backend!r} cannot time operators one by one")
    times = [
        call(result.target.supplied, "profile", measure, program, expected=Mapping)
        for program in (_exported(result, result.converted), copied(float_program()))
    ]
    return tuple(
        evolve(each, microseconds=_time(each, times[0]), float_microseconds=_time(each, times[1]))
        for each in listed
    )


def _exported(result: Result, model: GraphModule) -> ExportedProgram:
    return tensors_only(export_again(model, result.example, result.dynamic_shapes))


def _time(operator: Operator, seconds: Mapping[str, float]) -> float | None:
    names = operator.pattern or (operator.name,)
    found = [seconds[name] for name in names if name in seconds]
    return sum(found) * 1e6 if found and names[0] == operator.name else None


def _timing(result: Result, float_program: Callable[[], ExportedProgram]) -> Timing:
    if result.target.backend.simulated:
        raise InputError(
            f"{result.target.backend.runtime} is a simulator, so its times are meaningless"
        )
    alone = result.target.of_method(None)
    plain = cached.lowered(alone, copied(float_program()))
    sample, changed = result.samples[0], result.lowered.changed_inputs
    loader = result.target.loader.in_float(result.boundary, changed)
    programs = [(alone.loader, plain.program), (loader, result.program)]
    in_float, quantized = in_turns(programs, sample)
    return Timing(1000 * in_float, 1000 * quantized, ROUNDS)


def _computes_ranges(converted: GraphModule) -> bool:
    """Whether a model computes the ranges of activations when it runs, as for a dynamic config."""
    return any(".choose_qparams" in called(node) for node in converted.graph.nodes)


@contextmanager
def _noted(notes: list[str], what: str) -> Iterator[None]:
    """Note an error of a measurement instead of raising it: the rest of the report took minutes."""
    try:
        yield
    except QregError as error:
        notes.append(f"no {what}: {error}")


@frozen
class Made:
    """What a program was made with: the parts of its recipe."""

    quantizer: RegistryQuantizer
    options: Mapping[str, Any]
    algorithms: str | tuple[Named, ...]
    record: Record
    seed: int
    io: IO = FLOAT
    _digest: dict[str, str | None] = field(factory=dict, init=False, repr=False, eq=False)

    @property
    def recipe(self) -> Recipe:
        parts = self.quantizer, self.options, self.algorithms
        return recipe_of(*parts, record=self.record, seed=self.seed, io=self.io)

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the recipe; None if a part of it cannot be in a recipe."""
        if "recipe" not in self._digest:
            try:
                self._digest["recipe"] = self.recipe.digest
            except ConfigError:
                self._digest["recipe"] = None
        return self._digest["recipe"]


@frozen
class Result:
    """A quantized program, and the results of the stages that made it.

    ``program`` is in the format of the backend. ``converted`` is the module that ``convert_pt2e``
    returned, finished by the backend, and that was lowered. ``reference`` is the float graph with
    the operators that have decisions. ``samples`` are the first calibration batches, each a tuple
    of the arguments in the order of the graphs, keywords last. ``example`` are the inputs that the
    model was exported with. ``reads`` are the names of its parameters and buffers that the float
    model uses. ``dynamic_shapes`` are those of the program. ``target`` is the backend with the
    options that the program was lowered with. ``audit`` is None if the program cannot be read back.
    ``verification`` is None if the program was not run here: because ``verify`` was False, or
    because the backend only compiles. ``ranges`` are the observed ranges that use few of the
    quantized values. ``parameter_bytes`` is the size of the float model's parameters and buffers.
    ``notes`` are for the report: the effects of the processor on the configs. ``seconds`` is the
    time of each stage. ``algorithms`` are the outcomes of the algorithms that were asked for.
    ``made`` are the parts of ``recipe``. ``boundary`` has the qparams of the inputs and outputs
    that are integers in the program, and float in ``converted``.
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
    example: tuple[Any, ...] = field(repr=False)
    reads: frozenset[str] = field(repr=False)
    dynamic_shapes: Any = field(repr=False)
    target: Target = field(repr=False)
    parameter_bytes: int = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)
    notes: Sequence[str] = ()
    algorithms: Sequence[Outcome] = ()
    made: Made | None = field(default=None, repr=False, eq=False)
    boundary: Boundary = field(factory=Boundary, repr=False)
    _loaded: dict[str, Runner] = field(init=False, repr=False, eq=False, factory=dict)

    @property
    def program(self) -> bytes:
        return self.lowered.program

    @property
    def counts(self) -> Counter[str]:
        """The numbers of operators that run in ``int8`` and ``float``: ``report.counts``."""
        return self.report.counts

    @property
    def decided(self) -> Counter[str]:
        """The numbers of operators that are ``annotated``, ``shared`` and ``float`` by Decision.

        A Decision is what was requested; ``counts`` is what the program does.
        """
        return Counter(decision.status for decision in self.decisions)

    @property
    def report(self) -> Report:
        """What happened to each operator and why; ``print`` it, or save it as JSON or HTML."""

        return report_of(self)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the program; ``save`` it, and make the same program again.

        Raises ``ConfigError`` for a quantizer with a filter function, and for a config by value
        with parts that a recipe cannot name.
        """
        if self.made is None:
            raise InputError("the result was not made by qreg.quantize: it has no recipe")
        return self.made.recipe

    def run(self, *inputs: Any, **named: Any) -> Any:
        """Run the program on the inputs of the model, and return outputs like the model's.

        The inputs are the arguments of the model, or one dict of them by name. Arrays of numpy are
        accepted; outputs are tensors, in the structure and the types that the model returns, with
        its None and its numbers. The first call loads the program, with the options that it was
        verified with. The inputs are not modified.

        Raises ``InputError`` for a backend that only compiles and for inputs that do not fit.
        """
        if "program" not in self._loaded:
            self._loaded["program"] = self.target.loader(self.program)
        batch = called_with(inputs, named)
        signature = taking_integers(Signature.of_graph(self.converted), self.boundary)
        given = placed(batch, signature, "run()", remedy=BY_HAND)
        outputs = run_once(self._loaded["program"], self.lowered, given)
        return structured(outputs, self.converted, self.boundary.given(given))

    @property
    def signature(self) -> ProgramSignature:
        """The names, shapes and dtypes of the inputs and outputs, with the dynamic dimensions."""
        return in_integers(ProgramSignature.of_graph(self.reference), self.boundary)

    def save_bundle(self, folder: str | Path, *, data: bool = True) -> None:
        """Write a folder that :func:`qreg.load` reads, to run, verify and explain the program.

        It has the program, the report, the recipe and the signature. ``data`` adds the inputs that
        the program was verified with, which are calibration batches, and the outputs of the float
        and the converted model for them. The folder is written in full or not at all; a bundle that
        is there is replaced.

        Raises ``BundleError`` for a folder with other files, and ``InputError`` for one that cannot
        be written, for a model with an output that only the model can compute, and for a program
        with several methods.
        """
        if self.target.method is not None:
            raise InputError(
                f"{folder}: the program has several methods (expected one in a bundle). Save the "
                "program alone, or the results as they were before qreg.combine."
            )
        found, modes = self.verification, self.made.quantizer.modes if self.made else ()
        Content(
            target=self.target,
            lowered=self.lowered,
            report=self.report,
            recipe=self._recipe_or_reason,
            reference=self.reference,
            converted=self.converted,
            boundary=self.boundary,
            samples=self.samples if data else (),
            floor=floor_of(modes),
            min_sqnr=found.min_sqnr if found else MIN_SQNR,
        ).save(Path(folder))

    @property
    def _recipe_or_reason(self) -> Recipe | str:
        try:
            return self.recipe
        except (ConfigError, InputError) as error:
            return str(error)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Result cannot be pickled: it holds graphs of torch, plugins and a runtime. Write it "
            "with result.save_bundle(folder), and read it with qreg.load(folder)."
        )

    def save(self, path: str | Path) -> None:
        """Write the program to a file, in full or not at all.

        If programs of the backend consist of several files, the others are written next to it.
        Raises ``InputError`` if the path cannot be written, or if its suffix is not that of the
        backend's programs.
        """
        write_program(self.target.supplied, Path(path), self.program)
