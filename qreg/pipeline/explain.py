"""Build a report: of a result, or, without calibration, of the decisions alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from qreg.analysis.sizes import parameter_bytes
from qreg.errors import InputError
from qreg.graph.prepared import float_graph
from qreg.pipeline.arguments import public_function
from qreg.pipeline.lower import chosen
from qreg.pipeline.precision import to_float32
from qreg.pipeline.prepare import prepare_checked
from qreg.pipeline.quantize import quantize
from qreg.pipeline.request import Request, loaded, request_of
from qreg.pipeline.result import report_of
from qreg.pipeline.selection import Algorithms, selected
from qreg.plugins.options import complete
from qreg.plugins.processor import described
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.programs.export import exported, name_of
from qreg.programs.shortcuts import shortcuts
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.recipes.recipe import Recipe
from qreg.recipes.versions import versions_for
from qreg.report.operators import operators
from qreg.report.report import Report
from qreg.report.values import Provenance, Sizes
from qreg.utils.progress import Stages
from qreg.verification.verify import MIN_SQNR


@public_function
def explain(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    calibration: Iterable[Any] | None = None,
    max_batches: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    algorithms: Algorithms = (),
    workers: int | None = None,
    verify: bool = True,
    min_sqnr: float = MIN_SQNR,
    timeout: float | None = None,
    numerics: bool = False,
    sensitivity: bool = False,
    timing: bool = False,
    profile: bool = False,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Report:
    """Report what happens to each operator of a model.

    Without ``calibration`` nothing is converted or lowered, and the report contains the decisions.
    With ``calibration``, or a ``recipe`` with the values of one, the full pipeline of
    :func:`qreg.quantize` is run, with the same arguments, and the report contains the audit and the
    verification too. ``numerics`` then adds the noise of
    each operator. ``sensitivity`` adds the noise at the outputs that each pattern alone causes.
    ``timing`` adds the latency against the float program, which is lowered for that.
    ``profile`` adds the time of each operator alone, for which both programs are lowered again. A
    model in which nothing is quantized is reported like any other.

    Raises what ``quantize`` raises, and ``InputError`` for ``numerics``, ``sensitivity``,
    ``timing`` or ``profile`` without either.
    """
    followed = None if recipe is None else loaded(recipe)
    if calibration is None and (followed is None or followed.record is None):
        _check_unmeasured(numerics, sensitivity, timing, profile)
        asked = Request(backend, config, quantizer, algorithms, options)
        if followed is not None:
            asked = request_of(followed, asked, registry)
        given = chosen(asked.quantizer, asked.backend, asked.config, registry)
        selected(given.registry, asked.algorithms)
        complete(given.registry.backend(given.backend).value, asked.options or {})
        given = given.for_one_run(allow_float=True)
        return _decisions(model, example_inputs, dynamic_shapes, given, progress)
    result = quantize(
        model,
        example_inputs,
        backend=backend,
        calibration=calibration,
        max_batches=max_batches,
        transform=transform,
        config=config,
        quantizer=quantizer,
        algorithms=algorithms,
        workers=workers,
        dynamic_shapes=dynamic_shapes,
        allow_float=True,
        verify=verify,
        min_sqnr=min_sqnr,
        timeout=timeout,
        options=options,
        recipe=followed,
        progress=progress,
        registry=registry,
    )
    return report_of(
        result, numerics=numerics, sensitivity=sensitivity, timing=timing, profile=profile
    )


def _check_unmeasured(*measured: bool) -> None:
    if any(measured):
        raise InputError(
            "numerics, sensitivity, timing and profile require a quantized model: pass calibration "
            "data, or a recipe with its values"
        )


def _decisions(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any,
    dynamic_shapes: Any,
    quantizer: RegistryQuantizer,
    progress: bool | None,
) -> Report:
    kind = quantizer.registry.backend(quantizer.backend).value
    given = to_float32(model, example_inputs, None, [kind])
    with Stages(progress) as stages, shortcuts():  # no graph leaves this function
        with stages.stage("export"):
            program, example = exported(given.model, given.example_inputs, dynamic_shapes)
        with stages.stage("annotate"):
            reference = float_graph(prepare_checked(program, quantizer, example))
    return Report(
        backend=quantizer.backend,
        model=name_of(model),
        operators=operators(reference, quantizer.decisions),
        sizes=Sizes(parameter_bytes(program), None),
        runs_here=kind.load is not None,
        notes=(*quantizer.notes, *given.notes),
        seconds=stages.seconds,
        provenance=Provenance(versions_for(quantizer.registry, quantizer.backend), described()),
    )
