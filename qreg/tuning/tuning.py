"""The trials of a search: made, stored, ranked, and the best of them confirmed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from attrs import define, evolve, field

from qreg.errors import EvaluationError, QregError, RecipeError, VerificationError
from qreg.pipeline.result import Result, report_of
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.programs.loader import Loader
from qreg.programs.lowering import target
from qreg.recipes.recipe import Recipe
from qreg.tuning.elsewhere import Elsewhere
from qreg.tuning.evaluation import measured
from qreg.tuning.goal import Goal
from qreg.tuning.making import Product, Subject, loaded_again, made
from qreg.tuning.patterns import Pattern
from qreg.tuning.ranking import Base, Noises, base_of, finer, noises, ranked
from qreg.tuning.search import Search, evaluations
from qreg.tuning.store import Store
from qreg.tuning.tuned import Tuned
from qreg.tuning.values import Key, Trial, Variant
from qreg.utils.progress import Stages
from qreg.utils.wording import ALIKE
from qreg.verification.latency import Timing, in_turns

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
    _recipes: dict[Key, Recipe] = field(factory=dict, init=False)  # of trials made elsewhere
    _stored: Key | None = field(default=None, init=False)  # the best program in the folder
    _plain: dict[str, Variant] = field(factory=dict, init=False)  # by backend

    def search(self, plain: Variant) -> None:
        """Search one backend, from its plain config on.

        A search that is repeated after a trial was refuted goes on from there.
        """
        self._plain[plain.backend] = plain
        Search(
            plain,
            self.subject.algorithms,
            self.goal,
            self.budget,
            self.attempt,
            self.patterns,
            at_once=1 if self.elsewhere is None else self.elsewhere.at_once,
            spent=lambda _: evaluations(self._of(plain.backend)),
        ).run()

    def _of(self, backend: str) -> list[Trial]:
        return [each for each in self.trials if each.variant.backend == backend]

    def _left(self, backend: str) -> int:
        """The number of evaluations that the budget still has for a backend."""
        return self.budget - evaluations(self._of(backend))

    def attempt(self, variants: Sequence[Variant]) -> list[Trial]:
        """Return the trials of variants, which are made unless they are known, or in the folder."""
        known = {each.variant.key for each in self.trials}
        asked = [each for each in variants if each.key not in known]
        found = {each.key: self.store.trial(each) for each in asked} if self.store else {}
        new = [each for each in asked if found.get(each.key) is None]
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
            for trial, product in self.elsewhere.made(variants, self._metrics):
                if product is not None:
                    self._recipes[trial.variant.key] = product.recipe
                yield trial, product
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
        if trial is self.best:
            self._keep_best(trial)
        wanted = [each.variant.key for each in self.trials[-IN_MEMORY:]]
        wanted += [each.variant.key for each in self.trials if each.met or each is self.best]
        self._results = {key: each for key, each in self._results.items() if key in wanted}
        self._recipes = {key: each for key, each in self._recipes.items() if key in wanted}
        if self.on_trial is not None:
            self.on_trial(trial)

    def _keep_best(self, trial: Trial) -> None:
        """Store a program as the best, unless it is there."""
        if self.store and trial.variant.key != self._stored:
            self.store.keep_best(trial, self._supplied(trial))
            self._stored = trial.variant.key

    def patterns(self, trial: Trial) -> Sequence[Pattern]:
        """Return the quantized patterns of a trial, with their noises.

        There are none if they cannot be measured: other backends are searched all the same.
        """
        found = self.store.patterns(trial.variant) if self.store else None
        if found is None:
            try:
                with self.stages.stage("rank the patterns"):
                    found = ranked(*self._measured(trial))
            except QregError as error:
                what = f"{trial.variant.backend} {trial.variant}"
                self.notes.append(f"the patterns of {what} were not ranked: {error}")
                return ()
            if self.store:
                self.store.keep_patterns(trial.variant, *found)
        patterns, notes = found
        self.notes += [each for each in notes if each not in self.notes]
        return patterns

    def _measured(self, trial: Trial) -> tuple[Base, dict[str, Noises | str]]:
        """Return the sensitivities of a trial's program, and those in more precise configs."""
        variant = trial.variant
        names = list(finer(self.subject.registry, variant))
        same = evolve(variant, algorithms=trial.kept, moves=())
        others = [evolve(same, config=name) for name in names]
        if self.elsewhere is not None:
            base, *found = self.elsewhere.measured(variant, others)
        else:
            base = base_of(self._result(trial))
            found = [noises(self.subject, each) for each in others]
        return base, dict(zip(names, found, strict=True))

    def _result(self, trial: Trial) -> Result:
        """Return the result of a trial; one that is not in memory is made again."""
        key = trial.variant.key
        if key not in self._results:
            self._results[key] = self._again(trial.variant)
        return self._results[key]

    def _again(self, variant: Variant) -> Result:
        """Make the program of a trial again: by its recipe, which takes no algorithm, if known."""
        try:
            recipe = self._recipes.get(variant.key)
            if recipe is None and self.store:
                recipe = self.store.recipe(variant)
            return self.subject.quantized(variant, recipe)
        except RecipeError:  # of a file that was changed
            return self.subject.quantized(variant)

    @property
    def best(self) -> Trial | None:
        """The trial that meets the limit at the least cost, or that comes nearest to it."""
        met = [each for each in self.trials if each.met]
        if met:
            least = ALIKE * min(map(self._cost, met))
            alike = [each for each in met if self._cost(each) <= least]
            return min(alike, key=lambda each: (-(each.int8_share or 0.0), self._cost(each)))
        known = [each for each in self.trials if each.metric is not None]
        return min(known, default=None, key=lambda each: self.goal.drop(each.metric or 0.0))

    def _cost(self, trial: Trial) -> float:
        """Return what is minimized. Costs within 3 % are alike, and the share of int8 decides."""
        cost = trial.milliseconds if self.minimize == "latency" else trial.bytes
        return math.inf if cost is None else cost

    def tuned(self, model: str) -> Tuned:
        """Confirm the best program, and return the outcome.

        A program that misses the limit when it is evaluated again is not the best any more.
        """
        best, result, confirmed = self._confirmed()
        if best is not None:  # latencies and confirmations may have changed it
            self._keep_best(best)
        elif self.store:
            self.store.remove_best()
        timing = self._beside_float(best, result)
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
            timing=timing,
            result=result,
            store=self.store,
        )

    def _beside_float(self, best: Trial | None, result: Result | None) -> Timing | None:
        """Return the latency of the best program and of the float model, if latency matters."""
        is_timed = best is not None and best.milliseconds is not None
        if result is None or self.minimize != "latency" or not is_timed:
            return None
        with self.stages.stage("time float"):
            found = report_of(result, timing=True)
        self.notes += [each for each in found.notes if each not in result.notes]
        return found.timing

    def _confirmed(self) -> tuple[Trial | None, Result | None, float | None]:
        """Return the best trial, its program loaded again, and the metric of that if it meets."""
        self._time_in_turns()
        while (best := self.best) is not None:
            try:
                again = loaded_again(self._result(best))
            except QregError as error:  # of a program that is made again
                self._replace(best, evolve(best, metric=None, met=False, failure=str(error)))
                continue
            if not best.met:
                return best, again, None
            backend = best.variant.backend
            if self._left(backend) < 1:
                self.notes.append(
                    f"{backend} {best.variant} met the limit with {best.metric:.6g}, but the "
                    "budget was spent ahead of its confirmation"
                )
                self._replace(best, evolve(best, met=False))
                continue
            what = f"the program of {best.variant}, loaded again"
            with self.stages.stage("confirm"):
                try:
                    confirmed = measured(self.subject.evaluate, again.run, what)
                except EvaluationError as error:
                    self._replace(best, evolve(best, met=False, failure=str(error)))
                    continue
            if self.goal.meets(confirmed):
                return best, loaded_again(again), confirmed  # without the state of evaluate
            # the metric of the second evaluation
            self._replace(best, evolve(best, metric=confirmed, met=False, refuted=best.metric))
            if self._left(backend) > 1:
                self.search(self._plain[backend])
        return None, None, None

    def _time_in_turns(self) -> None:
        """Measure the latency of the programs that meet the limit again, in turns.

        Latencies of single trials were measured minutes apart.
        """
        met = [each for each in self.trials if each.met and each.milliseconds is not None]
        if self.minimize != "latency" or len(met) < 2:
            return
        with self.stages.stage("run in turns"):
            programs = [(self._loader(each), self._program(each)) for each in met]
            try:
                seconds = in_turns(programs, self.subject.batches[0])
            except VerificationError as error:
                self.notes.append(f"programs were not timed in turns: {error}")
                return
        for trial, latency in zip(met, seconds, strict=True):
            self._replace(trial, evolve(trial, milliseconds=1000 * latency))

    def _loader(self, trial: Trial) -> Loader:
        return target(self.subject.registry, trial.variant.backend).loader

    def _program(self, trial: Trial) -> bytes:
        """Return the program of a trial, from memory or from the work folder."""
        if self.store and trial.variant.key not in self._results:
            return self.store.program(trial, self._supplied(trial))
        return self._result(trial).program

    def _replace(self, trial: Trial, changed: Trial) -> None:
        self.trials[self.trials.index(trial)] = changed


def _title(variants: Sequence[Variant]) -> str:
    return "; ".join(f"{each.backend} {each}" for each in variants)
