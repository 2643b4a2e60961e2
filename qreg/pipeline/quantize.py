"""The whole way: from a float module to a program that has been loaded and run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from attrs import evolve
from torch.export import ExportedProgram
from torch.fx import GraphModule

from qreg.analysis.audit import audit
from qreg.analysis.fault_localization import Search, name_suspect
from qreg.analysis.numerics import float_graph
from qreg.analysis.ranges import concerns
from qreg.analysis.sizes import parameter_bytes
from qreg.errors import CalibrationError, ConfigError, ProgramError
from qreg.graph.mutation import own_state
from qreg.graph.provenance import module_stack
from qreg.pipeline.calibrate import convert, feed
from qreg.pipeline.lower import chosen, supported_shapes
from qreg.pipeline.prepare import prepare_program
from qreg.pipeline.result import Result
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.plugins.types.decision import Decision
from qreg.programs.export import export, exported
from qreg.programs.inputs import capped, checked, input_specs, length
from qreg.programs.lowering import target
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.utils.progress import Stages
from qreg.verification.agreement import check_agreement, checking_first
from qreg.verification.drops import largest_drops
from qreg.verification.verdict import check_min_sqnr, warn_if_poor
from qreg.verification.verify import DYNAMIC_FLOOR, FLOOR, MIN_SQNR, Verification
from qreg.verification.verify import verify as verify_lowered

SAMPLES = 4


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
    quantizer = chosen(quantizer, backend, config, registry).for_one_run(allow_float=allow_float)
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
            shapes = supported_shapes(goal, program, example)
            float_model = own_state(program.module(check_guards=False))
        with stages.stage("prepare"):
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
                graphs = reference, converted
                verification = _with_drops(verification, graphs, kept.samples, quantizer.decisions)
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


def _with_drops(
    verification: Verification,
    graphs: tuple[GraphModule, GraphModule],
    samples: Sequence[tuple[Any, ...]],
    decisions: Sequence[Decision],
) -> Verification:
    """Add the operators at which the SQNR of a poor program drops most."""
    drops = largest_drops(
        *graphs,
        samples,
        decisions,
        min_sqnr=verification.min_sqnr,
        slices=not verification.far,
    )
    return evolve(verification, drops=drops)


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
