"""The whole way: from a float module to a program that has been loaded and run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import evolve, field, frozen
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.agreement import check_agreement, checking_first
from qreg.audit import Audit, audit
from qreg.calibration import convert, feed
from qreg.drops import largest_drops
from qreg.errors import CalibrationError, ConfigError, InputError, ProgramError
from qreg.exporting import copied, dynamic_shapes_of, export, exported
from qreg.inputs import (
    capped,
    checked,
    graph_input_specs,
    input_specs,
    length,
)
from qreg.model import Decision, Lowered, Runner
from qreg.mutation import own_state
from qreg.numerics import float_graph
from qreg.preparing import allowing_float, folded_program, prepare_program
from qreg.programs import write_program
from qreg.progress import Stages
from qreg.quantizer import Config, RegistryQuantizer
from qreg.ranges import Range, concerns
from qreg.registry import DEFAULT, DEFAULT_BACKEND, Registry, installed
from qreg.scopes import module_stack
from qreg.sizes import parameter_bytes
from qreg.suspects import Search, name_suspect
from qreg.target import Target, target
from qreg.verdict import check_min_sqnr, warn_if_poor
from qreg.verification import (
    DYNAMIC_FLOOR,
    FLOOR,
    MIN_SQNR,
    Verification,
    run_once,
    structured,
)
from qreg.verification import verify as verify_lowered

if TYPE_CHECKING:
    from qreg.report import Report

SAMPLES = 4


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
        """How many operators are ``annotated``, ``shared`` and ``float`` by their Decisions.

        A Decision is what was asked for. What the program does is in ``report.counts``.
        """
        return Counter(decision.status for decision in self.decisions)

    @property
    def report(self) -> Report:
        """What became of every operator and why; ``print`` it, or save it as JSON or HTML."""
        from qreg.explanation import report_of

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


def quantize(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    calibration: Iterable[Any] | None = None,
    max_batches: int | None = None,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    dynamic_shapes: Any = None,
    allow_float: bool = False,
    verify: bool = True,
    min_sqnr: float = MIN_SQNR,
    options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Result:
    """Quantizes a float model for a backend, lowers it, and runs the program.

    ``example_inputs`` is a tuple of tensors, as for ``torch.export.export``; a lone tensor is the
    only input, and a program that was exported with example inputs needs none. ``calibration`` is
    any iterable of batches of the same form, or of dicts of inputs by name: a list, a generator, a
    ``DataLoader``; a config with static activations needs one. At most ``max_batches`` are taken
    from it, and only a few of them kept, to verify the program with. ``config`` is a
    name, a ``QuantizationConfig``, or None; instead of ``backend`` and ``config``, ``quantizer``
    takes one that was made by ``get_quantizer`` and given its scopes. ``dynamic_shapes`` is as
    for ``torch.export.export``. ``allow_float`` lets a model pass in which nothing is quantized.
    ``min_sqnr`` is the least SQNR in dB that each output, and each slice of it, should have against
    the float model: below it the program is returned with a
    :class:`~qreg.errors.QualityWarning` that names the operators at which the SQNR drops.
    ``options`` are those of the backend, by name: ``qreg ops`` lists them.
    ``progress`` None shows a progress bar on a terminal, and elsewhere a line for each stage.

    Raises a :class:`~qreg.errors.QregError` that names the remedy: before any work for an unknown
    backend, config or option, a missing package, or missing calibration data; at its stage for a
    model that does not export, a batch that does not fit, a model in which nothing would be
    quantized, and a program that does not lower, load or run.
    """
    check_min_sqnr(min_sqnr)
    quantizer = chosen(quantizer, backend, config, registry)
    goal = target(quantizer.registry, quantizer.backend, options)
    _check_modes(quantizer, calibration)
    batches = None if calibration is None else capped(calibration, max_batches)
    steps = length(() if calibration is None else calibration, max_batches)
    load = goal.load if verify else None
    floor = DYNAMIC_FLOOR if "dynamic" in quantizer.modes else FLOOR
    with Stages(progress) as stages:
        with stages.stage("export"):
            program, example = exported(model, example_inputs, dynamic_shapes)
            specs = input_specs(program)
            shapes = _shapes(goal, program, example)
            float_model = own_state(program.module(check_guards=False))
        with stages.stage("prepare"), allowing_float(quantizer, allow_float):
            prepared = prepare_program(program, quantizer)
            reference = float_graph(prepared)
        # Without activations to observe, one input is enough for the observers of the weights.
        kept = _Kept(checked([example] if batches is None else batches, specs))
        with stages.stage("calibrate", steps or None) as each:
            compared = checking_first(kept, partial(check_agreement, float_model, reference))
            feed(prepared, compared, each)
        with stages.stage("convert"):
            ranges = concerns(prepared, kept.samples)
            converted = convert(prepared, fold_quantize=goal.backend.fold_quantize)
        search = Search(goal.lower, load, floor)
        with _naming_suspects(stages, converted, quantizer.decisions, kept.samples, search):
            with stages.stage("lower"):
                lowered = goal.lower(export(converted, example, shapes))
            verification = None
            if load is not None:
                with stages.stage("verify"):
                    verification = verify_lowered(
                        load,
                        lowered,
                        kept.samples,
                        runtime=goal.backend.runtime,
                        floor=floor,
                        min_sqnr=min_sqnr,
                        float_model=float_model,
                        converted=converted,
                    )
        if verification and not verification.good:
            with stages.stage("find the noise"):
                drops = largest_drops(
                    reference,
                    converted,
                    kept.samples,
                    quantizer.decisions,
                    min_sqnr=min_sqnr,
                    slices=not verification.far,
                )
                verification = evolve(verification, drops=drops)
    if verification:
        warn_if_poor(verification)
    return Result(
        backend=quantizer.backend,
        model=name_of(model),
        lowered=lowered,
        decisions=tuple(quantizer.decisions),
        audit=audit(quantizer.decisions, lowered, converted),
        ranges=ranges,
        verification=verification,
        reference=reference,
        converted=converted,
        samples=kept.samples,
        dynamic_shapes=shapes,
        target=goal,
        parameter_bytes=parameter_bytes(program),
        seconds=stages.seconds,
        notes=quantizer.notes,
    )


def _shapes(goal: Target, program: ExportedProgram, example: tuple[Any, ...]) -> Any:
    """The dynamic dimensions of a program; raises ``InputError`` if the backend has none."""
    found = dynamic_shapes_of(program, example)
    if found is not None and not goal.backend.dynamic_shapes:
        raise InputError(
            f"the model has dynamic dimensions, and programs for {goal.name!r} have one size: "
            "export it without dynamic_shapes, at the size that it will run at"
        )
    return found


@contextmanager
def _naming_suspects(
    stages: Stages,
    converted: GraphModule,
    decisions: Sequence[Decision],
    samples: Sequence[tuple[Any, ...]],
    search: Search,
) -> Iterator[None]:
    """Looks for the operator that an error is due to, before the error goes on."""
    try:
        yield
    except ProgramError as error:
        with stages.stage("find the operator"):
            named = _named(error, converted, decisions, samples, search)
        raise named from error.__cause__


def _named(error: ProgramError, *about: Any) -> ProgramError:
    try:
        return name_suspect(error, *about)
    except Exception as trouble:  # the search must not hide what it is made for
        return error.suspecting(f"the search for the operator failed: {trouble!r}")


def lower(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Lowered:
    """Lowers a model for a backend as it is, float or converted.

    What a float model computes from its constants alone is computed once, as in ``quantize``.

    Raises ``ExportError`` and ``LoweringError`` with the cause chained, and ``InputError`` for a
    model with dynamic dimensions where the backend has none.
    """
    goal = target(registry or installed(), backend, options)
    program, example = exported(model, example_inputs, dynamic_shapes)
    if not goal.backend.dynamic_shapes:
        input_specs(program)
        _shapes(goal, program, example)
    folded = folded_program(program, example)
    return goal.lower(copied(folded) if folded is model else folded)


def chosen(
    given: RegistryQuantizer | None,
    backend: str,
    config: Config,
    registry: Registry | None,
) -> RegistryQuantizer:
    if given is None:
        return RegistryQuantizer(backend, config, registry=registry)
    if not isinstance(given, RegistryQuantizer):
        raise ConfigError(
            f"quantizer: {given!r} is not a quantizer of qreg (expected what qreg.get_quantizer "
            "returns). Use qreg.prepare for another torchao quantizer."
        )
    if backend not in (DEFAULT_BACKEND, given.backend):
        raise ConfigError(
            f"quantizer: it is for backend {given.backend!r} (expected {backend!r}). Make it with "
            f"qreg.get_quantizer({backend!r}), or leave backend out."
        )
    if config != DEFAULT or registry not in (None, given.registry):
        raise ConfigError("a quantizer brings its own config and registry: give one or the other")
    return given


def _check_modes(quantizer: RegistryQuantizer, calibration: Iterable[Any] | None) -> None:
    if "qat" in quantizer.modes:
        raise ConfigError(
            "a QAT config needs training, which quantize() does not do: give the quantizer of "
            "get_quantizer() to prepare_qat_pt2e, train, convert, and pass the result to lower()"
        )
    if "static" in quantizer.modes and calibration is None:
        raise CalibrationError(
            "a config with static activations needs calibration data: pass calibration=[(x,), "
            "...], a tuple of input tensors for each batch, or choose a dynamic config"
        )


def name_of(model: torch.nn.Module | ExportedProgram) -> str:
    """What a model is called in reports: its class."""
    if isinstance(model, ExportedProgram):
        return _class_of(model)
    return type(model).__name__


def _class_of(program: ExportedProgram) -> str:
    stacks = (module_stack(node) for node in program.graph.nodes)
    outermost = next((stack[0][1] for stack in stacks if stack), "a program")
    return outermost.rpartition(".")[2]


class _Kept(Iterable[tuple[Any, ...]]):
    """Batches passed through once; the first few stay, to verify the program with."""

    def __init__(self, batches: Iterable[tuple[Any, ...]]) -> None:
        self._batches = batches
        self.samples: list[tuple[Any, ...]] = []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._batches:
            if len(self.samples) < SAMPLES:
                self.samples.append(batch)
            yield batch
