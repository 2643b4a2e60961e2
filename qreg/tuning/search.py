"""The search for one backend: which variants are tried, in which order.

The plain config is tried first, then the algorithms. If both miss the limit, patterns leave the
config: :mod:`qreg.tuning.mixing` has several sets of them, and bisection finds the smallest that
meets the limit. Each variant is judged by the metric of its program. What is tried next depends on
nothing but the trials before it, so a search that is repeated takes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, evolve, field

from qreg.tuning.goal import Goal
from qreg.tuning.mixing import Level, levels
from qreg.tuning.patterns import Pattern
from qreg.tuning.values import FLOAT, Move, Place, Trial, Variant

MARGIN = 0.7  # of the noise at which the metric is expected to meet the limit


def evaluations(trials: Sequence[Trial]) -> int:
    """Return the number of evaluations that trials took."""
    return sum(each.evaluated + each.was_repeated for each in trials)


@define
class Search:
    """The trials of one backend.

    ``attempt`` makes and evaluates variants, at most ``at_once`` together. ``rank`` returns the
    patterns of a trial. ``budget`` is the number of evaluations, of which one is left for the
    confirmation. ``spent`` returns the number spent after some trials of this search; those of
    an earlier search, whose trials this one does not repeat, may count too.
    """

    plain: Variant
    algorithms: tuple[str, ...]
    goal: Goal
    budget: int
    attempt: Callable[[Sequence[Variant]], list[Trial]]
    rank: Callable[[Trial], Sequence[Pattern]]
    at_once: int = 1
    spent: Callable[[Sequence[Trial]], int] = evaluations
    trials: list[Trial] = field(factory=list, init=False)

    def run(self) -> None:
        """Try variants until one meets the limit with as little as possible out of its config."""
        base = self._first()
        tried = any(each.variant.algorithms for each in self.trials)
        if self.algorithms and not tried and self._may_go_on(base):
            (improved,) = self._try([evolve(base.variant, algorithms=self.algorithms)])
            base = self._better(base, improved)
        unsure = next((each for each in reversed(self.trials) if each.uncertain), None)
        if unsure is not None and self._may_go_on(base):  # the metric can tell what the SQNR cannot
            (other,) = self._try([evolve(unsure.variant, trusted=unsure.uncertain)])
            base = self._better(base, other)
        if self._may_go_on(base):
            self._bisect(base, levels(self.rank(base)))

    def _first(self) -> Trial:
        """Return the first trial that works, with what makes programs fail in float.

        If several trials are made at once, it is the better of the plain config and of the one with
        algorithms.
        """
        plain = self.plain
        trial, others = self._pair(plain)
        while set(trial.culprits).difference(_places(plain)) and self._left > 0:
            plain = evolve(plain, moves=(*plain.moves, Move(trial.culprits, FLOAT, None)))
            trial, others = self._pair(plain)
        for other in others:
            trial = self._better(trial, other)
        return trial

    def _pair(self, plain: Variant) -> tuple[Trial, list[Trial]]:
        """Try a config, and at once the same with algorithms, if several are made at once."""
        variants = [plain]
        if self.algorithms and self.at_once > 1:
            variants.append(evolve(plain, algorithms=self.algorithms))
        first, *others = self._try(variants)
        return first, others

    def _may_go_on(self, trial: Trial) -> bool:
        return trial.metric is not None and not trial.met and self._left > 0

    @property
    def _left(self) -> int:
        """The number of trials that may still be evaluated."""
        return max(0, self.budget - 1 - self.spent(self.trials))

    def _try(self, variants: Sequence[Variant]) -> list[Trial]:
        found = self.attempt(variants[: self._left])
        self.trials += found
        return found

    def _better(self, first: Trial, second: Trial) -> Trial:
        """Return the trial with the better metric; the first if they are equal."""
        if first.metric is None or second.metric is None:
            return second if first.metric is None else first
        return second if self.goal.drop(second.metric) < self.goal.drop(first.metric) else first

    def _bisect(self, base: Trial, found: Sequence[Level]) -> None:
        """Find the first level that meets the limit; levels below it are expected to miss it.

        A level whose program fails, for example because nothing is left in int8, is left out.
        """
        trusted = tuple(name for name in base.variant.trusted if name in base.kept)
        start = evolve(base.variant, algorithms=base.kept, trusted=trusted)
        missed, met = -1, len(found)
        numbers = [self._expected(base, found)]
        while self._left > 0 and met - missed > 1:
            numbers = _spread(numbers, missed, met, min(self.at_once, self._left))
            moved = [(*start.moves, *found[each].moves) for each in numbers]
            trials = self._try([evolve(start, moves=moves) for moves in moved])
            made = dict(zip(numbers, trials, strict=True))
            failed = {number for number, each in made.items() if each.metric is None}
            met = min([met, *(number for number, each in made.items() if each.met)])
            below = [number for number in made if number < met and number not in failed]
            missed = max([missed, *below])
            found = [each for number, each in enumerate(found) if number not in failed]
            met -= sum(number < met for number in failed)
            missed -= sum(number < missed for number in failed)
            is_last = self._left <= self.at_once and met == len(found)
            numbers = [met - 1] if is_last else [(missed + met) // 2]

    def _expected(self, base: Trial, found: Sequence[Level]) -> int:
        """Return the number of the level that should meet the limit.

        A drop is expected to grow with the amplitude of the noise, the root of its power.
        """
        drop = self.goal.drop(base.metric or 0.0)
        wanted = MARGIN * (self.goal.allowed / drop) ** 2
        enough = (number for number, each in enumerate(found) if each.left <= wanted)
        return next(enough, len(found) - 1)


def _places(variant: Variant) -> set[Place]:
    return {place for move in variant.moves for place in move.places}


def _spread(numbers: Sequence[int], missed: int, met: int, count: int) -> list[int]:
    """Return at most ``count`` numbers between two bounds: those given, and others between."""
    step = (met - missed) / (count + 1)
    others = (missed + round(step * (each + 1)) for each in range(count))
    found = dict.fromkeys([*numbers, *(each for each in others if missed < each < met)])
    return sorted(list(found)[:count])
