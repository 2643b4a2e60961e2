"""The full pipeline: from a float module to a program that has been loaded and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from qreg.errors import CalibrationError, ConfigError
from qreg.inputs.quantized_io import FLOAT, IO, check_io
from qreg.jobs.processes import check_timeout
from qreg.jobs.running import check_count
from qreg.pipeline.arguments import public_function
from qreg.pipeline.lower import chosen
from qreg.pipeline.precision import to_float32
from qreg.pipeline.replay import replayed
from qreg.pipeline.request import Request, request_of
from qreg.pipeline.result import Result
from qreg.pipeline.run import Run
from qreg.pipeline.selection import AUTO, Algorithms, Selection, named, selected
from qreg.pipeline.source import Data
from qreg.pipeline.work import check_work_folder
from qreg.plugins.registry import DEFAULT, DEFAULT_BACKEND, Registry
from qreg.programs.export import name_of
from qreg.programs.lowering import target
from qreg.quantizer.registry_quantizer import Config, RegistryQuantizer
from qreg.recipes.recipe import Recipe
from qreg.recipes.record import Record
from qreg.recipes.values import Named
from qreg.utils.progress import Stages
from qreg.verification.verdict import check_min_sqnr, warn_if_poor
from qreg.verification.verify import MIN_SQNR


@public_function
def quantize(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    backend: str = DEFAULT_BACKEND,
    calibration: Iterable[Any] | None = None,
    max_batches: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    config: Config = DEFAULT,
    quantizer: RegistryQuantizer | None = None,
    dynamic_shapes: Any = None,
    algorithms: Algorithms = (),
    workers: int | None = None,
    allow_float: bool = False,
    io: IO = FLOAT,
    verify: bool = True,
    min_sqnr: float = MIN_SQNR,
    timeout: float | None = None,
    options: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    work: str | Path | None = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Result:
    """Quantize a float model for a backend, lower it, and run the program.

    Args:
        model: a float module to export, or an ``ExportedProgram``. A module in half precision is
            quantized as a copy in float32, and so are its inputs, with a
            :class:`~qreg.errors.PrecisionWarning`.
        example_inputs: a tuple of the arguments of ``forward``, a dict of them by name, a pair
            ``(args, kwargs)``, or a lone tensor. Arrays of numpy are accepted as tensors of their
            dtype. A program that was exported with example inputs needs none.
        backend: the name of the backend.
        calibration: any iterable of batches (a list, a generator, a ``DataLoader``) in one of the
            forms of ``example_inputs``. Configs with static activations need it.
        max_batches: the maximum number of batches to read. Only a few are kept, to verify the
            program with.
        transform: a function from a batch of ``calibration`` to the inputs of the model, for
            batches that hold more, such as labels: ``lambda batch: batch[0]``.
        config: a name, a ``QuantizationConfig``, or None.
        quantizer: a quantizer with its scopes, made by ``get_quantizer``, instead of ``backend``
            and ``config``.
        dynamic_shapes: as for ``torch.export.export``.
        algorithms: names of algorithms, ``Algorithm`` values, or tables of a name and parameters
            to try: ``{"name": "gptq", "block": 64}``. ``"auto"`` stands for all automatic ones.
            Each is kept only if it improves the SQNR of the outputs to float on calibration batches
            that are held back; ``result.algorithms`` has the outcomes. Those of the stage
            ``"float"`` read the calibration data once more.
        workers: the number of processes that calibrate, each on a part of the batches, which are
            stored in a temporary folder for that. The qparams are the same for any number from 1
            on. They differ from those of None, one pass in this process, for configs with
            histograms. See "Several processes" in the docs for clusters.
        allow_float: accept a model in which nothing is quantized.
        io: ``"int8"`` for a program that takes and gives quantized tensors, int8 or uint8 as the
            config has it, instead of float ones; or a dict of ``"int8"`` and ``"float"`` by the
            names of inputs and outputs in ``result.signature``, which has their scales and zero
            points. The others are as in the model.
        verify: run the program and compare it with the float and the converted model.
        min_sqnr: the SQNR in dB that each output, and each slice of it, should reach against the
            float model. A program below it is returned with a
            :class:`~qreg.errors.QualityWarning` that names the operators at which the SQNR drops.
        timeout: the seconds after which a runtime is ended that hangs when ``verify`` runs the
            program. The program then runs in a separate process, which imports the script again.
            None runs it in this process, without limit.
        options: the options of the backend by name; ``qreg ops`` lists them.
        recipe: a :class:`~qreg.Recipe`, or the path of one, instead of ``backend``, ``config``,
            ``quantizer``, ``algorithms`` and ``options``. One with the values of a calibration
            gives the same program without calibration data; ``calibration`` is then only used to
            verify the program.
        work: a folder for what takes long: the layers that algorithms have changed, and the lowered
            program. A run that was stopped goes on from there and gives the same program. See
            "Going on after a stop" in the docs for its size.
        progress: None shows a progress bar on a terminal, and elsewhere a line for each stage.
        registry: the registry to use instead of that of the installed plugins.

    Returns:
        The program, with the decisions, the audit and the verification.

    Raises:
        QregError: with the remedy. An unknown backend, config or option, a missing package and
            missing calibration data are reported ahead of any work. A model that does not export,
            a batch that does not fit, a model in which nothing would be quantized, and a program
            that does not lower, load or run are reported at their stage.
    """
    check_min_sqnr(min_sqnr)
    check_count("workers", workers)
    check_timeout(timeout)
    folder = None if work is None else check_work_folder(work)
    given = Request(backend, config, quantizer, algorithms, options, io=io)
    if recipe is not None:
        given = request_of(recipe, given, registry)
    quantizer = chosen(given.quantizer, given.backend, given.config, registry)
    quantizer = quantizer.for_one_run(allow_float=allow_float)
    goal = target(quantizer.registry, quantizer.backend, given.options)
    check_io(given.io, goal.backend, quantizer.modes)
    _check_modes(quantizer, calibration, given.record)
    selection = Selection() if given.record else selected(quantizer.registry, given.algorithms)
    asked = _named(given, selection, quantizer.registry)
    wide = to_float32(model, example_inputs, transform, [goal.backend])
    data = Data(calibration, max_batches, wide.transform)
    with Stages(progress) as stages:
        run = Run(
            quantizer=quantizer,
            goal=goal,
            load=goal.load if verify else None,
            stages=stages,
            seed=given.seed,
            workers=workers,
            notes=wide.notes,
            io=given.io,
            timeout=timeout,
            work=folder,
        )
        source = run.export(wide.model, wide.example_inputs, dynamic_shapes)
        if given.record:
            graphs = replayed(run, source, data, given.record)
        else:
            graphs = run.quantize(source, data, selection)
        graphs = run.bounded(graphs)
        lowered, verification = run.lower(source, graphs, min_sqnr)
    if verification is not None:
        warn_if_poor(verification, tried=bool(asked))
    return run.result(name_of(model), source, graphs, lowered, verification, asked)


def _named(given: Request, selection: Selection, registry: Registry) -> str | tuple[Named, ...]:
    """Return what names the algorithms in a recipe, or ``"auto"``."""
    if given.record or given.algorithms == AUTO:
        return given.algorithms  # type: ignore[return-value]
    return tuple(named(each.value, registry) for each in selection.algorithms)


def _check_modes(
    quantizer: RegistryQuantizer, calibration: Iterable[Any] | None, record: Record | None
) -> None:
    if "qat" in quantizer.modes:
        raise ConfigError(
            "a QAT config needs training, which quantize() does not do: pass the quantizer of "
            "get_quantizer() to prepare_qat_pt2e, train, convert, and pass the result to lower()"
        )
    if "static" in quantizer.modes and calibration is None and record is None:
        raise CalibrationError(
            "a config with static activations needs calibration data: pass calibration=[(x,), "
            "...], a tuple of input tensors for each batch, or choose a dynamic config"
        )
