"""The trials of a search: made, stored, ranked, and the best of them confirmed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from attrs import define, evolve, field

from qreg.pipeline.result import Result
from qreg.tuning.evaluation import measured
from qreg.tuning.goal import Goal
from qreg.tuning.making import Subject, loaded_again, made
from qreg.tuning.patterns import Pattern
from qreg.tuning.ranking import ranked
from qreg.tuning.search import Search
from qreg.tuning.store import Store
from qreg.tuning.tuned import Tuned
from qreg.tuning.values import Key, Trial, Variant
from qreg.utils.progress import Stages

Minimize: TypeAlias = Literal["latency", "size"]

IN_MEMORY = 2  # of the last trials, the results: a search ranks the patterns of one of them


@define
class Tuning:
    """The trials so far. ``store`` keeps them in a folder; None: in memory alone."""

    subject: Subject
    goal: Goal
    minimize: Minimize
    budget: int
    store: Store | None
    stages: Stages
    on_trial: Callable[[Trial], object] | None = None
    trials: list[Trial] = field(factory=list, init=False)
    notes: list[str] = field(factory=list, init=False)
    _metrics: dict[str, float] = field(factory=dict, init=False)  # by the digest of the program
    _results: dict[Key, Result] = field(factory=dict, init=False)

    def search(self, plain: Variant) -> None:
        """Search one backend, from its plain config on."""
        names = self.subject.algorithms
        Search(plain, names, self.goal, self.budget, self.attempt, self.patterns).run()

    def attempt(self, variant: Variant) -> Trial:
        """Return the trial of a variant, which is made unless it is in the work folder."""
        number = len(self.trials) + 1
        with self.stages.stage(f"trial {number}: {variant.backend} {variant}"):
            trial = self.store.trial(variant) if self.store else None
            if trial is None:
                trial, result = made(self.subject, variant, self._metrics)
                if result is not None:
                    self._results[variant.key] = result
                if self.store:
                    self.store.keep(trial, result)
            trial = evolve(trial, met=self.goal.meets(trial.metric))
        self.trials.append(trial)
        self._note(trial)
        return trial

    def _note(self, trial: Trial) -> None:
        if trial.metric is not None:
            self._metrics.setdefault(trial.digest, trial.metric)
        result = self._results.get(trial.variant.key)
        if self.store and result and trial is self.best:
            self.store.keep_best(result)
        wanted = [each.variant.key for each in self.trials[-IN_MEMORY:]]
        wanted += [self.best.variant.key] if self.best else []
        self._results = {key: each for key, each in self._results.items() if key in wanted}
        if self.on_trial is not None:
            self.on_trial(trial)

    def patterns(self, trial: Trial) -> Sequence[Pattern]:
        """Return the quantized patterns of a trial, with their noises."""
        found = self.store.patterns(trial.variant) if self.store else None
        if found is None:
            with self.stages.stage("rank the patterns"):
                found, notes = ranked(self.subject, self._result(trial), trial.variant)
            self.notes += notes
            if self.store:
                self.store.keep_patterns(trial.variant, found)
        return found

    def _result(self, trial: Trial) -> Result:
        """Return the result of a trial; one that is not in memory is made again."""
        key = trial.variant.key
        if key not in self._results:
            self._results[key] = self.subject.quantized(trial.variant)
        return self._results[key]

    @property
    def best(self) -> Trial | None:
        """The trial that meets the limit at the least cost, or that comes nearest to it."""
        known = [each for each in self.trials if each.metric is not None]
        return min(known, default=None, key=self._rank)

    def _rank(self, trial: Trial) -> tuple[bool, float, float]:
        cost = trial.milliseconds if self.minimize == "latency" else trial.bytes
        drop = self.goal.drop(trial.metric or 0.0)
        if not trial.met:
            return True, drop, 0.0
        return False, math.inf if cost is None else cost, drop

    def tuned(self, model: str) -> Tuned:
        """Confirm the best program, and return the outcome.

        A program that misses the limit when it is evaluated again is not the best any more.
        """
        best, confirmed = self.best, None
        while best is not None and best.met:
            with self.stages.stage("confirm"):
                again = loaded_again(self._result(best))
                what = f"the program of {best.variant}, loaded again"
                confirmed = measured(self.subject.evaluate, again.run, what)
            if self.goal.meets(confirmed):
                break
            self._refute(best, confirmed)
            best = self.best
        return Tuned(
            model=model,
            float_metric=self.goal.float_metric,
            limit=self.goal.limit,
            lower_is_better=self.goal.lower_is_better,
            minimize=self.minimize,
            trials=tuple(self.trials),
            best=best,
            confirmed=confirmed if best is not None and best.met else None,
            notes=tuple(self.notes),
            seconds=dict(self.stages.seconds),
            result=None if best is None else self._result(best),
            store=self.store,
        )

    def _refute(self, trial: Trial, metric: float) -> None:
        """Replace a trial by one with the metric of its second evaluation."""
        again = evolve(trial, metric=metric, met=False, refuted=trial.metric)
        self.trials[self.trials.index(trial)] = again
