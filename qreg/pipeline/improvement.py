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
from qreg.analysis.sizes import tensor_bytes
from qreg.errors import AlgorithmError, AlgorithmWarning, CalibrationError, PreparationError
from qreg.graph.prepared import copied
from qreg.graph.provenance import numbered
from qreg.pipeline.plan import Model, Plan, outcome, source_of
from qreg.pipeline.score import Score, scored
from qreg.pipeline.work import Work
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import (
    REWRITES,
    Algorithm,
    Calibration,
    Candidate,
    Change,
    Once,
    Stage,
)
from qreg.plugins.types.backend import Backend
from qreg.recipes.record import Step
from qreg.utils.memory import collect_large, in_a_file, is_large
from qreg.utils.progress import Stages

Batch = tuple[Any, ...]
Attempt = Callable[..., tuple[Model, Outcome]]


@frozen(eq=False)
class Trials:
    """What the trials of all algorithms share.

    ``fitting`` are the batches that algorithms are run on, ``held_back`` those that decide.
    ``prepare_again`` returns the calibrated model of a changed float graph, with the observers of
    another model that computes the same, if one is given and has them, else in one pass over the
    calibration data. ``strict`` makes a failing algorithm an error. ``work`` keeps changes for a
    run that goes on. ``seed`` is that of torch's random numbers in each algorithm.
    """

    plan: Plan
    backend: Backend
    fitting: Sequence[Batch]
    held_back: Sequence[Batch]
    prepare_again: Callable[[GraphModule, Model | None], Model]
    strict: bool
    stages: Stages
    work: Work | None = None
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
            model, found = self._timed(self._tried, model, supplied, [*earlier, *outcomes])
            outcomes.append(found)
        for number, (supplied, found) in enumerate(zip(algorithms, outcomes, strict=True)):
            if self._deserves_another_try(model, supplied, found, outcomes):
                model, again = self._timed(self._tried_together, model, supplied)
                seconds = found.seconds + again.seconds
                better = evolve(again, operators=found.operators) if _is_better(again) else found
                outcomes[number] = evolve(better, seconds=seconds)
        return model, outcomes

    def _timed(self, attempt: Attempt, model: Model, *given: Any) -> tuple[Model, Outcome]:
        started = time.perf_counter()
        with self.stages.stage(f"try {given[0].value.name}"):
            model, found = attempt(model, *given)
            _free_copies(model)
        return model, evolve(found, seconds=time.perf_counter() - started)

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

    def _deserves_another_try(
        self,
        model: Model,
        supplied: Supplied[Algorithm],
        found: Outcome,
        outcomes: Sequence[Outcome],
    ) -> bool:
        """Whether an algorithm was dropped ahead of one that was kept.

        A shift of the outputs may hide what better rounding gains, until it is corrected.
        """
        order = [each.value.name for each in self.plan.algorithms]
        kept = {each.algorithm for each in outcomes if each.kept}
        return (
            supplied.value.stage == "prepared"
            and found.after is not None
            and not found.kept
            and any(name in kept for name in order[order.index(found.algorithm) + 1 :])
            and kept.isdisjoint(self._rivals(supplied.value))
        )

    def _tried_together(self, model: Model, supplied: Supplied[Algorithm]) -> tuple[Model, Outcome]:
        """Try an algorithm in its place among those of its stage that were kept."""
        plain = evolve(model, graph=model.calibrated, steps=_rewrites(model))
        try:
            changed = self._with(plain, self._applied(model, supplied))
        except (AlgorithmError, PreparationError) as error:
            return model, outcome(supplied, self._failed(supplied, error))
        return self._judged(model, evolve(changed, score=self._score(changed)), supplied, ())

    def _with(self, model: Model, algorithms: Sequence[Supplied[Algorithm]]) -> Model:
        """Return a model with the changes of algorithms of the stage ``"prepared"``."""
        for each in algorithms:
            model = _written(model, each, self._changes(model, each))
        return model

    def _applied(self, model: Model, *more: Supplied[Algorithm]) -> list[Supplied[Algorithm]]:
        """Return the algorithms of the stage ``"prepared"`` that a model has, and more of them."""
        names = {each.algorithm for each in model.steps if each.stage == "prepared"}
        names.update(each.value.name for each in more)
        return [each for each in self.plan.algorithms if each.value.name in names]

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
        changes = self._made(model, supplied)
        _free_copies(model)
        return changes

    def _made(self, model: Model, supplied: Supplied[Algorithm]) -> list[Change]:
        algorithm = supplied.value
        names = [each.name for each in algorithm.statistics]
        for name in names:
            if name in model.collected.failed:
                raise AlgorithmError(model.collected.failed[name])
        candidate = model.candidate(self.backend, supplied)
        given = Calibration(self.fitting, {name: model.collected.values[name] for name in names})
        given = evolve(given, once=self._once(model, supplied, candidate))
        untouched, is_big = _identity(candidate), is_large(_size(model))
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                found = algorithm.run(candidate, given)
                changes = [_in_files(each) if is_big else each for each in found]
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

    def _once(self, model: Model, supplied: Supplied[Algorithm], candidate: Candidate) -> Once:
        """Return what makes a change, whose random numbers do not depend on others, or reads it."""
        kept = self.work and self.work.once(supplied, candidate, model.data)

        def once(node: str, make: Callable[[], Change]) -> Change:
            torch.manual_seed(self.seed)
            return kept(node, make) if kept else make()

        return once

    def _better(
        self, model: Model, supplied: Supplied[Algorithm], changes: Sequence[Change]
    ) -> tuple[Model, Outcome]:
        """Return the changed model if its score is better, else that without some changes."""
        changed = self._changed(model, changes, supplied)
        if supplied.value.stage not in REWRITES:
            local = [each for each in changes if not _worsens(changed, model, each)]
            if local and len(local) < len(changes):
                fewer = self._changed(model, local, supplied)
                if fewer.score.mean > changed.score.mean:
                    changed, changes = fewer, local
        return self._judged(model, changed, supplied, changes)

    def _judged(
        self,
        model: Model,
        changed: Model,
        supplied: Supplied[Algorithm],
        changes: Sequence[Change],
    ) -> tuple[Model, Outcome]:
        improves, gains = changed.score.improves(model.score), changed.score.gains(model.score)
        kept = improves or (gains and supplied.value.name in self.plan.trusted)
        before, after = model.score.mean, changed.score.mean
        found = evolve(
            outcome(supplied, _verdict(improves, kept, before, after)),
            kept=kept,
            uncertain=gains and not improves,
            before=before,
            after=after,
            operators=tuple(dict.fromkeys(each.node for each in changes)),
        )
        return (changed if kept else model), found

    def _changed(
        self, model: Model, changes: Sequence[Change], supplied: Supplied[Algorithm]
    ) -> Model:
        """Return a model with changes, and its score.

        A changed float model is prepared again, and the algorithms of the stage ``"prepared"`` are
        run again on it.
        """
        stage = supplied.value.stage
        if stage in REWRITES:
            same = model if stage == "precision" else None  # what is in float computes the same
            changed = self.prepare_again(write(copied(model.reference), changes, stage), same)
            changed = evolve(changed, steps=(*_rewrites(model), _step(supplied, changes)))
            changed = self._with(changed, self._applied(model))
        else:
            changed = _written(model, supplied, changes)
        return evolve(changed, score=self._score(changed))


def _is_better(again: Outcome) -> bool:
    return again.kept or again.uncertain


def _free_copies(model: Model) -> None:
    """Free the candidates of a model, and models that were not kept."""
    collect_large(_size(model))


def _size(model: Model) -> int:
    return tensor_bytes(model.reference.state_dict().values())


def _in_files(change: Change) -> Change:
    """Return a change whose large constants are in files, until they are read."""
    if not isinstance(change, Change):  # an error of the algorithm
        return change
    constants = {place: in_a_file(value) for place, value in change.constants.items()}
    return evolve(change, constants=constants)


def _rewrites(model: Model) -> tuple[Step, ...]:
    return tuple(each for each in model.steps if each.stage in REWRITES)


def _step(supplied: Supplied[Algorithm], changes: Sequence[Change]) -> Step:
    name, stage = supplied.value.name, supplied.value.stage
    return Step(name, stage, supplied.distribution, supplied.version, tuple(changes))


def _written(model: Model, supplied: Supplied[Algorithm], changes: Sequence[Change]) -> Model:
    """Return a model with changes of its prepared or converted graph."""
    graph = write(copied(model.graph), changes, supplied.value.stage)
    return evolve(model, graph=graph, steps=(*model.steps, _step(supplied, changes)))


def _verdict(improves: bool, kept: bool, before: float, after: float) -> str:
    if improves:
        return "it improves the outputs"
    if kept:
        return "its gain is uncertain, and the metric of a search judges it"
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
