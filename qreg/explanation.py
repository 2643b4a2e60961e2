"""Puts a report together: of a result, or without calibration of the decisions alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from attrs import evolve
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from qreg.audit import reason
from qreg.blame import call
from qreg.errors import InputError, QregError
from qreg.exporting import export, exported
from qreg.macs import Count, counts
from qreg.numerics import OperatorNoise, float_graph
from qreg.numerics import numerics as noise_of
from qreg.options import complete
from qreg.origins import origin
from qreg.pipeline import Result, chosen, name_of, quantize
from qreg.preparing import allowing_float, prepare
from qreg.progress import Stages
from qreg.quantizer import Config, RegistryQuantizer
from qreg.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.report import Operator, Report, Sizes
from qreg.sizes import parameter_bytes
from qreg.timing import ROUNDS, Timing, side_by_side
from qreg.verification import MIN_SQNR

if TYPE_CHECKING:
    from qreg.audit import Placement
    from qreg.model import Decision

FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')
TORCHS_OWN = "/torch/nn/"  # the modules of torch, which a model is written in terms of


def explain(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    calibration: Iterable[Any] | None = None,
    max_batches: int | None = None,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    verify: bool = True,
    min_sqnr: float = MIN_SQNR,
    numerics: bool = False,
    timing: bool = False,
    profile: bool = False,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Report:
    """Says what would become of every operator of a model, or with calibration what did.

    Without ``calibration`` nothing is converted or lowered: the report has the decisions. With it
    the model goes the whole way of :func:`qreg.quantize`, whose arguments these are, and the report
    has the audit and the verification too; then ``numerics`` adds the noise of each operator, and
    ``timing`` the latency against the float program, which is lowered for that, and ``profile``
    the time of each operator by itself, for which both are lowered once more. A model in which
    nothing is quantized gets a report like any other.

    Raises what ``quantize`` raises, and ``InputError`` for ``numerics``, ``timing`` or ``profile``
    without ``calibration``.
    """
    if calibration is None:
        if numerics or timing or profile:
            raise InputError(
                "numerics, timing and profile run the quantized model: pass calibration data"
            )
        given = chosen(quantizer, backend, config, registry)
        complete(given.registry.backend(given.backend).value, options or {})
        return _decisions(model, example_inputs, dynamic_shapes, given, progress)
    result = quantize(
        model,
        example_inputs,
        backend=backend,
        calibration=calibration,
        max_batches=max_batches,
        config=config,
        quantizer=quantizer,
        dynamic_shapes=dynamic_shapes,
        allow_float=True,
        verify=verify,
        min_sqnr=min_sqnr,
        options=options,
        progress=progress,
        registry=registry,
    )
    return report_of(result, numerics=numerics, timing=timing, profile=profile)


def _decisions(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any,
    dynamic_shapes: Any,
    quantizer: RegistryQuantizer,
    progress: bool | None,
) -> Report:
    with Stages(progress) as stages:
        with stages.stage("export"):
            program, example = exported(model, example_inputs, dynamic_shapes)
        with stages.stage("annotate"), allowing_float(quantizer, True):
            reference = float_graph(prepare(program, quantizer, example))
    return Report(
        backend=quantizer.backend,
        model=name_of(model),
        operators=operators(reference, quantizer.decisions),
        sizes=Sizes(parameter_bytes(program), None),
        runs_here=quantizer.registry.backend(quantizer.backend).value.load is not None,
        notes=quantizer.notes,
        seconds=stages.seconds,
    )


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
    seconds = side_by_side(load, programs, result.samples[0])
    before, behind = (each * 1000 for each in seconds)
    return Timing(before, behind, ROUNDS)


@contextmanager
def _noted(notes: list[str], what: str) -> Iterator[None]:
    """A measurement that fails leaves a note: the rest of the report took minutes to make."""
    try:
        yield
    except QregError as error:
        notes.append(f"no {what}: {error}")


def operators(
    reference: GraphModule,
    decisions: Iterable[Decision],
    placements: Mapping[str, Placement] | None = None,
    noise: Sequence[OperatorNoise] = (),
) -> tuple[Operator, ...]:
    """What is known of each operator that was decided on.

    ``reference`` is the annotated graph without observers.
    """
    nodes = {origin(node): node for node in _nodes(reference) if origin(node)}
    counted = counts(reference)
    measured = {each.node: each for each in noise}
    return tuple(
        _operator(
            decision,
            nodes.get(decision.node),
            (placements or {}).get(decision.node),
            measured.get(decision.node),
            counted.get(decision.node, Count()),
        )
        for decision in decisions
    )


def _nodes(model: GraphModule) -> Iterator[Node]:
    """The nodes of a graph and of the bodies in it."""
    graphs = [each for each in model.modules() if isinstance(each, GraphModule)]
    return (node for each in graphs for node in each.graph.nodes)


def _operator(
    decision: Decision,
    node: Node | None,
    placement: Placement | None,
    noise: OperatorNoise | None,
    counted: Count,
) -> Operator:
    value = node.meta.get("val") if node else None
    tensor = value if isinstance(value, Tensor) else None
    return Operator(
        name=decision.node,
        operator=decision.operator,
        module=decision.module,
        status=decision.status,
        reason=reason(decision, placement),
        annotator=decision.annotator,
        distribution=decision.distribution,
        config=decision.config,
        pattern=decision.pattern,
        inputs=_inputs(node) if node else (),
        shape=None if tensor is None else tuple(_size(size) for size in tensor.shape),
        dtype=None if tensor is None else str(tensor.dtype).removeprefix("torch."),
        source=source_line(node) if node else None,
        macs=counted.macs,
        uncounted="; ".join(counted.unknown) or None,
        place=placement.place if placement else None,
        lowered_as=(placement.operator or None) if placement else None,
        types=(placement.types or None) if placement else None,
        delegate=placement.delegate if placement else None,
        sqnr=noise.sqnr if noise else None,
        largest_difference=noise.largest if noise else None,
    )


def _size(size: Any) -> int | None:
    return size if isinstance(size, int) else None


def _inputs(node: Node) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for source in node.all_input_nodes:
        while source.target is getitem:  # picks one of several
            source = source.all_input_nodes[0]
        if origin(source) or source.op == "placeholder":
            found[origin(source) or source.name] = None
    return tuple(found)


def source_line(node: Node) -> str | None:
    """Where in the model's source an operator comes from: file, line and code.

    The innermost frame that is not in ``torch.nn``, or the innermost of all.
    """
    frames = list(FRAME.finditer(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if TORCHS_OWN not in frame["file"]]
    if not frames:
        return None
    frame = (own or frames)[-1]
    return f"{frame['file']}:{frame['line']}: {frame['code'].strip()}"
