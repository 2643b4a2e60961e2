"""The trials of a search: made, stored, ranked, and the best of them confirmed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from attrs import define, evolve, field

from qreg.errors import EvaluationError
from qreg.pipeline.result import Result
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.tuning.elsewhere import Elsewhere
from qreg.tuning.evaluation import measured
from qreg.tuning.goal import Goal
from qreg.tuning.making import Product, Subject, loaded_again, made
from qreg.tuning.patterns import Pattern
from qreg.tuning.ranking import ranked
from qreg.tuning.search import Search
from qreg.tuning.store import Store
from qreg.tuning.tuned import Tuned
from qreg.tuning.values import Key, Trial, Variant
from qreg.utils.progress import Stages
from qreg.verification.latency import in_turns

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
    elsewhere: Elsewhere | None = None
    trials: list[Trial] = field(factory=list, init=False)
    notes: list[str] = field(factory=list, init=False)
    _metrics: dict[str, float] = field(factory=dict, init=False)  # by the digest of the program
    _results: dict[Key, Result] = field(factory=dict, init=False)

    def search(self, plain: Variant) -> None:
        """Search one backend, from its plain config on."""
        Search(
            plain,
            self.subject.algorithms,
            self.goal,
            self.budget,
            self.attempt,
            self.patterns,
            at_once=1 if self.elsewhere is None else self.elsewhere.at_once,
        ).run()

    def attempt(self, variants: Sequence[Variant]) -> list[Trial]:
        """Return the trials of variants, which are made unless they are in the work folder."""
        found = {each.key: self.store.trial(each) for each in variants} if self.store else {}
        new = [each for each in variants if found.get(each.key) is None]
        for trial in filter(None, found.values()):
            self._note(trial)
        if new:
            with self.stages.stage(_title(new)):
                for trial, product in self._made(new):
                    if self.store:
                        self.store.keep(trial, product, self._supplied(trial))
                    self._note(trial)
        by_key = {each.variant.key: each for each in self.trials}
        return [by_key[each.key] for each in variants]

    def _made(self, variants: Sequence[Variant]) -> Iterator[tuple[Trial, Product | None]]:
        if self.elsewhere is not None:
            yield from self.elsewhere.made(variants, self._metrics)
            return
        for each in variants:
            trial, result = made(self.subject, each, self._metrics)
            if result is not None:
                self._results[each.key] = result
            yield trial, Product.of(result) if result is not None and self.store else None

    def _supplied(self, trial: Trial) -> Supplied[Backend]:
        return self.subject.registry.backend(trial.variant.backend)

    def _note(self, made: Trial) -> None:
        """Add a trial to those so far, and store its program if it is the best."""
        trial = evolve(made, met=self.goal.meets(made.metric))
        self.trials.append(trial)
        if trial.metric is not None:
            self._metrics.setdefault(trial.digest, trial.metric)
        if self.store and trial is self.best:
            self.store.keep_best(trial, self._supplied(trial))
        wanted = [each.variant.key for each in self.trials[-IN_MEMORY:]]
        wanted += [each.variant.key for each in self.trials if each.met or each is self.best]
        self._results = {key: each for key, each in self._results.items() if key in wanted}
        if self.on_trial is not None:
            self.on_trial(trial)

    def patterns(self, trial: Trial) -> Sequence[Pattern]:
        """Return the quantized patterns of a trial, with their noises."""
        found = self.store.patterns(trial.variant) if self.store else None
        if found is None:
            with self.stages.stage("rank the patterns"):
                found = ranked(self.subject, self._result(trial), trial.variant)
            if self.store:
                self.store.keep_patterns(trial.variant, *found)
        patterns, notes = found
        self.notes += notes
        return patterns

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
        best, confirmed = self._confirmed()
        if self.store and best is not None:  # latencies and confirmations may have changed it
            self.store.keep_best(best, self._supplied(best))
        return Tuned(
            model=model,
            float_metric=self.goal.float_metric,
            limit=self.goal.limit,
            lower_is_better=self.goal.lower_is_better,
            minimize=self.minimize,
            trials=tuple(self.trials),
            best=best,
            confirmed=confirmed,
            notes=tuple(self.notes),
            seconds=dict(self.stages.seconds),
            result=None if best is None else loaded_again(self._result(best)),
            store=self.store,
        )

    def _confirmed(self) -> tuple[Trial | None, float | None]:
        """Return the best trial, and the metric of its program loaded again; None if it misses."""
        self._time_in_turns()
        while (best := self.best) is not None and best.met:
            what = f"the program of {best.variant}, loaded again"
            with self.stages.stage("confirm"):
                again = loaded_again(self._result(best))
                try:
                    confirmed = measured(self.subject.evaluate, again.run, what)
                except EvaluationError as error:
                    self._replace(best, evolve(best, met=False, failure=str(error)))
                    continue
            if self.goal.meets(confirmed):
                return best, confirmed
            # the metric of the second evaluation
            self._replace(best, evolve(best, metric=confirmed, met=False, refuted=best.metric))
        return best, None

    def _time_in_turns(self) -> None:
        """Measure the latency of the programs that meet the limit again, in turns.

        Latencies of single trials were measured minutes apart.
        """
        met = [each for each in self.trials if each.met and each.milliseconds is not None]
        if self.minimize != "latency" or len(met) < 2:
            return
        with self.stages.stage("run in turns"):
            results = [self._result(each) for each in met]
            programs = [(each.target.loader, each.program) for each in results]
            seconds = in_turns(programs, results[0].samples[0])
        for trial, latency in zip(met, seconds, strict=True):
            self._replace(trial, evolve(trial, milliseconds=1000 * latency))

    def _replace(self, trial: Trial, changed: Trial) -> None:
        self.trials[self.trials.index(trial)] = changed


def _title(variants: Sequence[Variant]) -> str:
    return "; ".join(f"{each.backend} {each}" for each in variants)
