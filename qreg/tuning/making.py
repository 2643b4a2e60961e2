"""Make the program of a variant, and measure it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import evolve, field, frozen
from torch.export import ExportedProgram

from qreg.errors import (
    NothingQuantizedError,
    ProgramError,
    QregError,
    QualityWarning,
    UnknownModuleError,
)
from qreg.graph.mutation import own_state
from qreg.inputs.batches import BY_HAND, called_with, placed
from qreg.inputs.fingerprint import hash_of
from qreg.inputs.signature import Signature
from qreg.inputs.specs import called, cloned
from qreg.pipeline.quantize import quantize
from qreg.pipeline.result import Result
from qreg.pipeline.selection import Selection, named
from qreg.plugins.registry import Registry
from qreg.programs.copying import module_of
from qreg.quantizer.registry_quantizer import RegistryQuantizer, keep_in_float
from qreg.recipes.recipe import Recipe
from qreg.recipes.values import Named
from qreg.recipes.versions import versions_for
from qreg.report.report import Report
from qreg.tuning.evaluation import Evaluate, Model, measured
from qreg.tuning.fingerprints import of_function, of_graph, of_program
from qreg.tuning.values import FLOAT, Place, Trial, Variant
from qreg.verification.latency import in_turns

ROUNDS = 20

Batch = tuple[Any, ...]


@frozen(eq=False)
class Subject:
    """What all trials share: the exported model, its data, and the user's scopes."""

    program: ExportedProgram
    batches: Sequence[Batch]
    evaluate: Evaluate
    registry: Registry
    kept: tuple[str, ...] = ()
    selection: Selection = field(factory=Selection)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The names of the algorithms to try."""
        return tuple(each.value.name for each in self.selection.algorithms)

    @property
    def named(self) -> tuple[Named, ...]:
        """The algorithms to try as a recipe names them, with their parameters."""
        return tuple(named(each.value, self.registry) for each in self.selection.algorithms)

    @property
    def identity(self) -> dict[str, str]:
        """What all trials depend on: the model, the data and the metric as hashes, and names."""
        return {
            "model": of_program(self.program),
            "calibration data": hash_of(list(self.batches)),
            "evaluate": of_function(self.evaluate),
            "scopes": " ".join(self.kept),
            "parameters": json.dumps([each for each in self.named if not isinstance(each, str)]),
        }

    def versions(self, backend: str) -> dict[str, str]:
        """Return the versions of the packages that make the programs of a backend."""
        return versions_for(self.registry, backend)

    def quantizer(self, variant: Variant) -> RegistryQuantizer:
        """Return a quantizer with the scopes of a variant, within those of the user."""
        made = RegistryQuantizer(variant.backend, variant.config, registry=self.registry)
        for move in variant.moves:
            config = None if move.config == FLOAT else move.config
            for each in move.places:
                made.set_operator(each.module, each.operator, each.ordinal, config)
        return keep_in_float(made, self.kept)

    def selected(self, variant: Variant) -> Selection:
        """Return the algorithms of a variant."""
        tried = [e for e in self.selection.algorithms if e.value.name in variant.algorithms]
        return Selection(tuple(tried), trusted=variant.trusted)

    def quantized(self, variant: Variant, recipe: Recipe | None = None) -> Result:
        """Return the program of a variant; its metric judges it, and no warning.

        With its recipe, no calibration is run, and no algorithm.
        """
        made: dict[str, Any] = {"recipe": recipe, "registry": self.registry}
        if recipe is None:
            made = {"quantizer": self.quantizer(variant), "algorithms": self.selected(variant)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QualityWarning)
            return quantize(
                self.program,
                self.batches[0],
                calibration=self.batches,
                progress=False,
                **made,
            )


@frozen
class Product:
    """The program of a trial with its report and its recipe, as plain data."""

    program: bytes
    report: Report
    recipe: Recipe

    @classmethod
    def of(cls, result: Result) -> Product:
        """Return what is stored of a result."""
        return cls(result.program, result.report, result.recipe)


def made(
    subject: Subject, variant: Variant, known: Mapping[str, float] | None = None
) -> tuple[Trial, Result | None]:
    """Make the program of a variant and evaluate it; a failure is a trial with the reason.

    ``known`` are the metrics of programs that were evaluated, by their digests.
    """
    try:
        result = subject.quantized(variant)
    except QregError as error:
        if type(error) is UnknownModuleError:  # of the user's scopes, which all variants have
            raise
        calls = error.calls if isinstance(error, ProgramError) else ()
        return Trial(variant, failure=_why(error), culprits=tuple(Place(*c) for c in calls)), None
    trial = _described(variant, result)
    if result.target.load is None:
        reason = f"not run here: backend {variant.backend!r} only compiles"
        return evolve(trial, failure=reason), result
    known = known or {}
    try:
        return _measured(subject, trial, result, known), result
    except QregError as error:  # of the metric, or of a runtime that fails after its first runs
        evaluated = trial.digest not in known
        return evolve(trial, failure=str(error), evaluated=evaluated), result


def _measured(subject: Subject, trial: Trial, result: Result, known: Mapping[str, float]) -> Trial:
    """Return a trial with its metric, and the latency of its program."""
    if trial.digest in known:
        return _timed(evolve(trial, metric=known[trial.digest]), result)
    started = time.perf_counter()
    metric = measured(subject.evaluate, result.run, f"the program of {trial.variant}")
    seconds = {**trial.seconds, "evaluate": time.perf_counter() - started}
    return _timed(evolve(trial, metric=metric, evaluated=True, seconds=seconds), result)


def _why(error: QregError) -> str:
    """Return the message of an error; a search has no float program to offer instead."""
    if not isinstance(error, NothingQuantizedError):
        return str(error)
    ((reason, _), *_) = error.reasons.most_common() or [("it has no operators", 0)]
    return f"nothing would be quantized, mostly because: {reason}"


def _described(variant: Variant, result: Result) -> Trial:
    report, verified = result.report, result.verification
    return Trial(
        variant=variant,
        sqnr=None if verified is None else verified.worst_sqnr,
        int8_share=report.int8_share,
        bytes=len(result.program),
        digest=of_graph(result.converted, result.backend),
        kept=tuple(each.algorithm for each in result.algorithms if each.kept),
        uncertain=tuple(each.algorithm for each in result.algorithms if each.uncertain),
        seconds=dict(result.seconds),
    )


def _timed(trial: Trial, result: Result) -> Trial:
    """Return a trial with the latency of its program, unless the runtime simulates a device."""
    if result.target.backend.simulated:
        return trial
    started = time.perf_counter()
    program = result.target.loader, result.program
    (latency,) = in_turns([program], result.samples[0], ROUNDS)
    seconds = {**trial.seconds, "time": time.perf_counter() - started}
    return evolve(trial, seconds=seconds, milliseconds=1000 * latency)


def loaded_again(result: Result) -> Result:
    """Return a result whose program is loaded anew when it is run."""
    return evolve(result)


def float_model(
    program: ExportedProgram, on_call: Callable[[Batch], object] | None = None
) -> Model:
    """Return the float model as a function that is called like :meth:`qreg.Result.run`.

    ``on_call`` gets the inputs of each call.
    """
    signature = Signature.of_program(program)
    model = own_state(module_of(program))

    def run(*inputs: Any, **named: Any) -> Any:
        given = placed(called_with(inputs, named), signature, "evaluate", remedy=BY_HAND)
        if on_call is not None:
            on_call(given)
        with torch.no_grad():
            return called(model, cloned(given))

    return run
