"""Search for the fastest or smallest program whose metric is within a limit."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.export import ExportedProgram

from qreg.errors import (
    InputError,
    TargetMissedError,
    TargetMissedWarning,
    several,
)
from qreg.inputs.batches import check_batches, kept
from qreg.inputs.signature import Signature
from qreg.jobs.processes import check_timeout
from qreg.jobs.running import check_count
from qreg.pipeline.arguments import public_function
from qreg.pipeline.precision import to_float32
from qreg.pipeline.selection import AUTO, Algorithms, selected
from qreg.plugins.chosen import chosen_configs
from qreg.plugins.registry import DEFAULT_BACKEND, Registry, installed
from qreg.programs.export import exported, name_of
from qreg.programs.lowering import target as target_of
from qreg.tuning.elsewhere import Elsewhere
from qreg.tuning.evaluation import Evaluate, check_evaluate, measured
from qreg.tuning.goal import Wanted
from qreg.tuning.making import Subject, float_model
from qreg.tuning.store import Store
from qreg.tuning.text import why_not
from qreg.tuning.tuned import Tuned
from qreg.tuning.tuning import Minimize, Tuning
from qreg.tuning.values import Trial, Variant
from qreg.tuning.watching import Watched
from qreg.utils.progress import Stages

BUDGET = 8
LEAST = 2  # evaluations: one trial and its confirmation


@public_function
def tune(
    model: torch.nn.Module | ExportedProgram,
    example_inputs: Any = None,
    *,
    calibration: Iterable[Any],
    evaluate: Evaluate,
    max_drop: float | None = None,
    target: float | None = None,
    relative: bool = True,
    lower_is_better: bool = False,
    backends: Sequence[str] = (DEFAULT_BACKEND,),
    configs: Mapping[str, str] | None = None,
    algorithms: Algorithms = AUTO,
    minimize: Minimize = "latency",
    budget: int = BUDGET,
    workers: int | None = 1,
    timeout: float | None = None,
    work: str | Path | None = None,
    missed: Literal["warn", "error"] = "warn",
    keep_in_float: Sequence[str] = (),
    max_batches: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    dynamic_shapes: Any = None,
    on_trial: Callable[[Trial], object] | None = None,
    progress: bool | None = None,
    registry: Registry | None = None,
) -> Tuned:
    """Search for a program whose metric is within a limit of the float model's.

    For each backend, the plain config is tried first, then ``algorithms``, then patterns leave the
    config for a more precise one or for float, those first that cost the outputs most for what they
    save. How many is found by bisection. The metric of the program in the backend's runtime
    decides. The best program is loaded and evaluated once more before its limit counts as met.

    The arguments that are not listed below are those of :func:`qreg.quantize`. ``calibration`` is
    kept in memory.

    Args:
        evaluate: a function of one argument, which is called like the model, that returns a finite
            number. It is called for the float model, and for programs.
        max_drop: the largest loss against the float model, 0.01 by default.
        target: the metric to reach, instead of ``max_drop``.
        relative: whether ``max_drop`` is a share of the float metric, or in units of the metric.
        lower_is_better: for a metric such as perplexity.
        backends: the backends to search, by their names.
        configs: the name of the config for each backend that does not use its default config.
        minimize: what decides between programs that meet the limit: ``"latency"`` on one input, or
            ``"size"`` in bytes.
        budget: the number of evaluations of programs for each backend, with the confirmation. Two
            trials with the same program are evaluated once.
        workers: the number of processes that make trials, each of which loads the plugins itself;
            ``evaluate`` is pickled for them. Several trials of a step are made at once then. None
            is one for each core, or what ``joblib.parallel_config`` says, for example a cluster.
        timeout: the seconds after which a trial is ended that has not been made and evaluated,
            because its runtime or ``evaluate`` hangs. It is a trial that failed, and the search
            goes on. Each trial then runs in a separate process, which imports the script again and
            loads the plugins itself; one that crashes is a failed trial too. The confirmation of
            the best program runs in this process. None waits without limit.
        work: a folder for the trials, with their programs and reports. A search that was stopped
            goes on from there. ``best.*`` in it is the best program so far.
        missed: whether a limit that is not met is a warning or an error.
        keep_in_float: modules (by path) and operators (by name) to keep in float, for every
            backend.
        on_trial: called with each trial when it ends.

    Returns:
        The best program, its recipe, and all trials; also if the limit is not met.

    Raises:
        TargetMissedError: if the limit is not met and ``missed`` is ``"error"``, or if no program
            was evaluated. It has the result.
        EvaluationError: for an ``evaluate`` that fails on the float model.
        InputError: for a target that the float model misses, and for a work folder that is in use
            or of another search.
        QregError: as ``quantize``, for names, models that do not export, and batches that do not
            fit.
    """
    wanted = Wanted(max_drop, target, relative, lower_is_better)
    check_evaluate(evaluate)
    if on_trial is not None and not callable(on_trial):
        raise InputError(f"on_trial: it is {on_trial!r} (expected a function of a trial, or None)")
    _check(minimize, budget, missed)
    check_count("workers", workers)
    check_timeout(timeout)
    folder = _folder(work)
    registry = registry or installed()
    in_float = several("keep_in_float", keep_in_float)
    chosen = chosen_configs(registry, backends, configs or {})
    for name in chosen:
        target_of(registry, name)
    asked = algorithms if algorithms != AUTO or registry.algorithms() else ()
    selection = selected(registry, asked)
    check_batches(calibration)
    kinds = [registry.backend(name).value for name in chosen]
    given = to_float32(model, example_inputs, transform, kinds)
    with Stages(progress) as stages:
        with stages.stage("export"):
            program, _ = exported(given.model, given.example_inputs, dynamic_shapes)
        batches = kept(calibration, Signature.of_program(program), max_batches, given.transform)
        subject = Subject(program, batches, evaluate, registry, in_float, selection)
        store = Store(folder, subject.identity, subject.versions) if folder else None
        here = workers == 1 and timeout is None
        elsewhere = None if here else Elsewhere(subject, workers, timeout)
        with store.opened() if store else contextlib.nullcontext():
            with stages.stage("evaluate float"):

                def measure() -> tuple[float, list[str]]:
                    watched = Watched(batches)
                    model = float_model(program, watched.add)
                    return measured(evaluate, model, "the float model"), [*watched.notes()]

                metric, notes = store.float_metric(measure) if store else measure()
            goal = wanted.goal(metric)
            tuning = Tuning(subject, goal, minimize, budget, store, stages, on_trial, elsewhere)
            tuning.notes += notes
            for backend, config in chosen.items():
                tuning.search(Variant(backend, registry.config(backend, config).name))
            found = tuning.tuned(name_of(model))
    _judge(found, missed)
    return found


def _check(minimize: str, budget: object, missed: str) -> None:
    if minimize not in ("latency", "size"):
        raise InputError(f"minimize: it is {minimize!r} (expected 'latency' or 'size')")
    if missed not in ("warn", "error"):
        raise InputError(f"missed: it is {missed!r} (expected 'warn' or 'error')")
    if not isinstance(budget, int) or budget < LEAST:
        raise InputError(
            f"budget: it is {budget!r} (expected a number of evaluations, at least {LEAST}: one of "
            "a program, and one to confirm it)"
        )


def _folder(work: object) -> Path | None:
    if work is None:
        return None
    if not isinstance(work, (str, Path)):
        raise InputError(f"work: it is {work!r} (expected the path of a folder)")
    folder = Path(work).absolute()  # evaluate may change the current folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"work: {work} is a file (expected the path of a folder)")
    return folder


def _judge(found: Tuned, missed: str) -> None:
    if found.met:
        return
    message = why_not(found)
    if found.best is None or missed == "error":
        raise TargetMissedError(message, found)
    warnings.warn(message, TargetMissedWarning, stacklevel=4)
