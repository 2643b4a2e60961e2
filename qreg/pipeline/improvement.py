"""Try algorithms on a model one after another, and keep those that improve its outputs.

An algorithm returns changes. They are written into a copy of the model, which is then compared with
the model without them, on calibration batches that the algorithm has not seen. A model is never
returned with a worse score than it began with.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import evolve, frozen
from torch.fx import GraphModule

from qreg.algorithms.changes import write
from qreg.algorithms.outcome import Outcome
from qreg.errors import AlgorithmError, AlgorithmWarning, CalibrationError, PreparationError
from qreg.graph.prepared import copied
from qreg.graph.provenance import numbered
from qreg.pipeline.plan import Model, Plan, outcome, source_of
from qreg.pipeline.score import Score, scored
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import (
    Algorithm,
    Calibration,
    Candidate,
    Change,
    Stage,
)
from qreg.plugins.types.backend import Backend
from qreg.recipes.record import Step
from qreg.utils.progress import Stages

Batch = tuple[Any, ...]


@frozen(eq=False)
class Trials:
    """What the trials of all algorithms share.

    ``fitting`` are the batches that algorithms are run on, ``held_back`` those that decide.
    ``prepare_again`` returns the calibrated model of a changed float graph, in one pass over the
    calibration data. ``strict`` makes a failing algorithm an error. ``seed`` is that of torch's
    random numbers in each algorithm.
    """

    plan: Plan
    backend: Backend
    fitting: Sequence[Batch]
    held_back: Sequence[Batch]
    prepare_again: Callable[[GraphModule], Model]
    strict: bool
    stages: Stages
    seed: int = 0

    def improved(
        self, model: Model, *stages: Stage, earlier: Sequence[Outcome] = ()
    ) -> tuple[Model, list[Outcome]]:
        """Try the algorithms of some stages; return the best model, and the outcome of each.

        ``earlier`` are the outcomes of the stages ahead of these.
        Raises ``CalibrationError`` for too few batches and ``AlgorithmError`` for an algorithm that
        fails, if the user named it.
        """
        algorithms = [each for each in self.plan.algorithms if each.value.stage in stages]
        if not algorithms:
            return model, []
        if not self.held_back:
            return model, [outcome(each, self._too_few()) for each in algorithms]
        with self.stages.stage("score"):
            model = evolve(model, score=self._score(model))
        if not model.score.outputs:
            reason = "the model has no floating-point output to judge it by"
            return model, [outcome(each, reason) for each in algorithms]
        outcomes: list[Outcome] = []
        for supplied in algorithms:
            started = time.perf_counter()
            with self.stages.stage(f"try {supplied.value.name}"):
                model, found = self._tried(model, supplied, [*earlier, *outcomes])
            outcomes.append(evolve(found, seconds=time.perf_counter() - started))
        return model, outcomes

    def _too_few(self) -> str:
        """Return why nothing can be held back. Raises it if the user named the algorithms."""
        problem = (
            f"calibration: {len(self.fitting)} batch is too few for algorithms (expected at least "
            "2, of which one is held back to judge them)"
        )
        if self.plan.named:
            raise CalibrationError(f"{problem}. Pass more batches, or algorithms=().")
        return problem

    def _score(self, model: Model) -> Score:
        return scored(model.reference, model.graph, self.held_back)

    def _tried(
        self, model: Model, supplied: Supplied[Algorithm], outcomes: Sequence[Outcome]
    ) -> tuple[Model, Outcome]:
        rivals = self._rivals(supplied.value)
        for each in outcomes:
            if each.kept and each.algorithm in rivals:
                reason = f"{each.algorithm}, with which it is not combined, was kept"
                return model, outcome(supplied, reason)
        try:
            changes = self._changes(model, supplied)
            if not changes:
                return model, outcome(supplied, "it found nothing to change")
            return self._better(model, supplied, changes)
        except (AlgorithmError, PreparationError) as error:
            return model, outcome(supplied, self._failed(supplied, error))

    def _rivals(self, algorithm: Algorithm) -> set[str]:
        """Return the algorithms with which one is not combined, whichever of the two names it."""
        others = [each.value for each in self.plan.algorithms]
        return {each.name for each in others if algorithm.name in each.conflicts}.union(
            algorithm.conflicts
        )

    def _failed(self, supplied: Supplied[Algorithm], error: Exception) -> str:
        problem = error.problem if isinstance(error, AlgorithmError) else f"{error}"
        found = AlgorithmError(problem.rstrip("."), supplied.value.name, source_of(supplied))
        if self.strict or self.plan.named:
            raise found from error
        warnings.warn(f"{found} It was undone.", AlgorithmWarning, stacklevel=2)
        return f"it failed and was undone: {found.problem}"

    def _changes(self, model: Model, supplied: Supplied[Algorithm]) -> list[Change]:
        algorithm = supplied.value
        names = [each.name for each in algorithm.statistics]
        for name in names:
            if name in model.collected.failed:
                raise AlgorithmError(model.collected.failed[name])
        given = Calibration(self.fitting, {name: model.collected.values[name] for name in names})
        candidate = model.candidate(self.backend)
        untouched = _identity(candidate)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                changes = list(algorithm.run(candidate, given))
        except AlgorithmError:
            raise
        except Exception as cause:  # raised by a plugin
            raise AlgorithmError(f"it raised {cause!r}") from cause
        modified = untouched ^ _identity(candidate)
        if modified:
            name = min(each[0] for each in modified)
            raise AlgorithmError(f"it modifies {name!r} of the candidate (expected Changes only)")
        for each in changes:
            if not isinstance(each, Change):
                raise AlgorithmError(f"it returned {each!r} (expected a Change)")
            if each.node in candidate.kept:
                raise AlgorithmError(f"it changes {each.node!r}, which is kept in float by request")
        return changes

    def _better(
        self, model: Model, supplied: Supplied[Algorithm], changes: Sequence[Change]
    ) -> tuple[Model, Outcome]:
        """Return the changed model if its score is better, else that without some changes."""
        stage = supplied.value.stage
        changed = self._changed(model, supplied, changes)
        if stage != "float":
            local = [each for each in changes if not _worsens(changed, model, each)]
            if local and len(local) < len(changes):
                fewer = self._changed(model, supplied, local)
                if fewer.score.mean > changed.score.mean:
                    changed, changes = fewer, local
        kept = changed.score.improves(model.score)
        before, after = model.score.mean, changed.score.mean
        found = evolve(
            outcome(supplied, _verdict(kept, before, after)),
            kept=kept,
            before=before,
            after=after,
            operators=tuple(dict.fromkeys(each.node for each in changes)),
        )
        return (changed if kept else model), found

    def _changed(
        self, model: Model, supplied: Supplied[Algorithm], changes: Sequence[Change]
    ) -> Model:
        name, stage = supplied.value.name, supplied.value.stage
        step = Step(name, stage, supplied.distribution, supplied.version, tuple(changes))
        if stage == "float":
            changed = self.prepare_again(write(copied(model.reference), changes, stage))
        else:
            changed = evolve(model, graph=write(copied(model.graph), changes, stage))
        return evolve(changed, score=self._score(changed), steps=(*model.steps, step))


def _verdict(kept: bool, before: float, after: float) -> str:
    if kept:
        return "it improves the outputs"
    if after > before:
        return "its gain is too small or uncertain, or an output or class is worse"
    return "it does not improve the outputs"


def _worsens(changed: Model, model: Model, change: Change) -> bool:
    """Whether the output of a changed operator is worse than before."""
    names = {node.name: name for node, name in numbered(model.graph.graph).items()}
    return changed.score.worsens(model.score, names.get(change.node, ""))


def _identity(candidate: Candidate) -> set[tuple[str, object, int]]:
    """Return what changes if a tensor or a graph of a candidate is modified."""
    tensors = candidate.model.state_dict(keep_vars=True)
    found: set[tuple[str, object, int]] = {
        (name, id(tensor), tensor._version) for name, tensor in tensors.items()
    }
    for name, each in (("model.graph", candidate.model), ("reference.graph", candidate.reference)):
        found.add((name, str(each.graph), 0))
    return found
