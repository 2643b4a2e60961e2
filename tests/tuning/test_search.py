"""Which variants are tried, for metrics that are computed from the patterns that are moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from attrs import evolve

from qreg.tuning.goal import Goal, Wanted
from qreg.tuning.mixing import SMALLEST, levels
from qreg.tuning.patterns import Pattern, joined, with_guesses
from qreg.tuning.search import Search, evaluations
from qreg.tuning.values import FLOAT, Place, Trial, Variant

PLAIN = Variant("toy", "minmax")
Metric = Callable[[Variant], float]


def pattern(name: str, noise: float, work: float = 1.0, **options: object) -> Pattern:
    """A pattern of one operator, that reads the operators in ``borders``."""
    known = {"minmax": noise, FLOAT: 0.0, **options.pop("noises", {})}  # type: ignore[dict-item]
    place = Place("", name, 0)
    return Pattern((name,), (place,), "minmax", known, work, **options)  # type: ignore[arg-type]


def names(variant: Variant) -> set[str]:
    return {move.places[0].operator for move in variant.moves}


def searched(
    patterns: Sequence[Pattern],
    metric: Callable[[Variant], float | None],
    *,
    budget: int = 8,
    **options: object,
) -> list[Trial]:
    goal: Goal = Wanted(max_drop=0.05).goal(1.0)

    def attempt(variants: Sequence[Variant]) -> list[Trial]:
        found = [(each, metric(each)) for each in variants]
        return [
            Trial(
                v,
                m,
                met=goal.meets(m),
                evaluated=m is not None,
                kept=tuple(
                    name for name in v.algorithms if name not in unsure or name in v.trusted
                ),
                uncertain=tuple(name for name in v.algorithms if name in unsure),
            )
            for v, m in found
        ]

    algorithms: tuple[str, ...] = options.pop("algorithms", ())  # type: ignore[assignment]
    unsure: tuple[str, ...] = options.pop("unsure", ())  # type: ignore[assignment]
    search = Search(PLAIN, algorithms, goal, budget, attempt, lambda _: patterns, **options)  # type: ignore[arg-type]
    search.run()
    return search.trials


def by_noise(patterns: Sequence[Pattern]) -> Metric:
    """A metric that falls with the amplitude of the noise that is left."""
    return lambda variant: (
        1 - sum(each.noise for each in patterns if each.names[0] not in names(variant)) ** 0.5
    )


def test_a_good_program_takes_one_trial() -> None:
    patterns = [pattern("a", 0.001)]
    (trial,) = searched(patterns, by_noise(patterns), algorithms=("gptq",))
    assert trial.met


def test_algorithms_come_ahead_of_float() -> None:
    trials = searched([], lambda v: 0.99 if v.algorithms else 0.5, algorithms=("gptq",))
    assert [each.variant.algorithms for each in trials] == [(), ("gptq",)]


def test_the_metric_judges_algorithms_whose_gain_is_uncertain() -> None:
    options = {"algorithms": ("smooth", "gptq"), "unsure": ("gptq",)}
    trials = searched([], lambda v: 0.99 if v.trusted else 0.9 if v.algorithms else 0.5, **options)
    tried = [(each.variant.algorithms, each.variant.trusted) for each in trials]
    both = ("smooth", "gptq")
    assert tried == [((), ()), (both, ()), (both, ("gptq",))]
    assert trials[-1].met


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("without", [0.9, 0.8])
def test_an_uncertain_algorithm_is_tried_where_none_was_kept(at_once: int, without: float) -> None:
    """The variant with algorithms is then as good as the plain one, or worse."""

    def metric(variant: Variant) -> float:
        return 0.99 if variant.trusted else without if variant.algorithms else 0.9

    trials = searched([], metric, algorithms=("gptq",), unsure=("gptq",), at_once=at_once)
    assert len(trials) == 3
    assert trials[-1].variant.trusted == ("gptq",)


@pytest.mark.parametrize(("trusted", "carried"), [(0.91, ("gptq",)), (0.89, ())])
def test_patterns_are_moved_in_the_better_of_the_two(
    trusted: float, carried: tuple[str, ...]
) -> None:
    patterns = [pattern("a", 0.3), pattern("b", 1e-5)]

    def metric(variant: Variant) -> float:
        if "a" in names(variant):
            return 0.99
        return trusted if variant.trusted else 0.9 if variant.algorithms else 0.5

    trials = searched(patterns, metric, algorithms=("smooth", "gptq"), unsure=("gptq",))
    assert len(trials) == 4
    assert trials[-1].met
    assert trials[-1].variant.trusted == carried
    assert trials[-1].variant.algorithms == ("smooth", *carried)


def test_the_noisiest_pattern_is_found() -> None:
    patterns = [pattern(f"p{n}", 0.5 if n == 3 else 1e-5) for n in range(20)]
    trials = searched(patterns, by_noise(patterns))
    assert trials[-1].met
    assert names(trials[-1].variant) == {"p3"}
    assert len(trials) == 2


def test_more_is_moved_than_the_pattern_that_drowns_the_others() -> None:
    patterns = [pattern("first", 1000.0), *(pattern(f"p{n}", 0.001) for n in range(10))]
    trials = searched(patterns, by_noise(patterns))
    assert (
        min(len(each.variant.moves) for each in trials if each.met) == 9
    )  # of noise, 0.002 is left


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_bisection_finds_few_patterns_within_the_budget(at_once: int) -> None:
    patterns = [pattern(f"p{n}", 0.1 * 0.7**n) for n in range(30)]
    trials = searched(patterns, by_noise(patterns), at_once=at_once)
    assert len(trials) <= 7
    fewest = min(len(each.variant.moves) for each in trials if each.met)
    needed = next(n for n in range(30) if sum(0.1 * 0.7**k for k in range(n, 30)) ** 0.5 <= 0.05)
    assert needed <= fewest <= needed + 1


def test_a_metric_that_needs_nearly_everything_in_float_is_met_in_the_end() -> None:
    patterns = [pattern(f"p{n}", 0.01) for n in range(400)]

    def metric(variant: Variant) -> float:
        return 1.0 if len(variant.moves) >= 395 else 0.0

    trials = searched(patterns, metric)
    assert min(len(each.variant.moves) for each in trials if each.met) == 396
    assert len(trials) <= 7


def test_a_limit_that_cannot_be_met_ends_within_the_budget() -> None:
    patterns = [pattern(f"p{n}", 0.01 * 0.8**n) for n in range(40)]
    for budget in (2, 3, 8):
        trials = searched(patterns, lambda variant: 0.1, budget=budget, algorithms=("gptq",))
        assert len(trials) <= budget - 1
        assert len({each.variant.key for each in trials}) == len(trials)


def test_a_program_that_fails_is_not_improved() -> None:
    trials: list[Trial] = []

    def attempt(variants: Sequence[Variant]) -> list[Trial]:
        trials.extend(Trial(each, failure="no such kernel") for each in variants)
        return trials

    search = Search(PLAIN, ("gptq",), Wanted().goal(1.0), 8, attempt, lambda _: [])
    search.run()
    assert len(trials) == 1


@pytest.mark.parametrize(("gain", "expected"), [(0.1, ("gptq",)), (-0.1, ())])
def test_the_better_of_two_is_the_base(gain: float, expected: tuple[str, ...]) -> None:
    patterns = [pattern("a", 0.5), pattern("b", 1e-4)]
    plain = by_noise(patterns)

    def metric(variant: Variant) -> float:
        return plain(variant) + (gain if variant.algorithms and not variant.moves else 0.0)

    trials = searched(patterns, metric, algorithms=("gptq",))
    assert trials[-1].variant.algorithms == expected
    assert trials[-1].met


@pytest.mark.parametrize("at_once", [1, 2])
def test_levels_without_a_program_are_left_out(at_once: int) -> None:
    patterns = [pattern(f"p{n}", 0.001) for n in range(30)]
    metric = by_noise(patterns)

    def fails(variant: Variant) -> float | None:
        return None if len(variant.moves) in range(10, 20) or len(variant.moves) > 28 else 0.5

    trials = searched(patterns, lambda v: fails(v) and metric(v), at_once=at_once)
    assert any(each.metric is None for each in trials)
    assert min(len(each.variant.moves) for each in trials if each.met) in range(27, 29)


def test_algorithms_that_do_not_help_are_tried_once_if_several_trials_are_made() -> None:
    patterns = [pattern("a", 0.5), pattern("b", 1e-4)]
    trials = searched(patterns, by_noise(patterns), algorithms=("gptq",), at_once=2)
    assert [(each.variant.algorithms, len(each.variant.moves)) for each in trials] == [
        *(((), 0), (("gptq",), 0), ((), 1)),
    ]


def test_a_cheap_pattern_is_moved_ahead_of_one_that_costs_much() -> None:
    (first, *_) = levels([pattern("large", 0.5, 1000.0), pattern("small", 0.4, 1.0)])
    assert [each.places[0].operator for each in first.moves] == ["small"]
    assert first.moves[0].share == pytest.approx(0.4 / 0.9)


def test_an_island_costs_its_conversions() -> None:
    chain = [pattern("a", 0.2), pattern("b", 0.2), pattern("c", 0.2), pattern("far", 0.2)]
    chain = [
        evolve(each, borders={chain[n - 1].names[0]: 100.0} if n else {})
        for n, each in enumerate(chain)
    ]
    # an end has one conversion, and its neighbour then has none that is new
    first = levels(chain)[0].moves
    assert {each.places[0].operator for each in first} == {"a", "b"}


def test_a_more_precise_config_is_taken_where_it_is_enough() -> None:
    noises = {"dynamic": 0.001}
    (level, *_) = levels([pattern("a", 0.5, 100.0, noises=noises), pattern("b", 0.1, 100.0)])
    assert [(each.places[0].operator, each.config) for each in level.moves] == [("a", "dynamic")]


def test_patterns_that_share_a_weight_move_together() -> None:
    found = [pattern("a", 0.5), pattern("b", 0.01), pattern("c", 0.1), pattern("d", 0.02)]
    first, second = joined(found, [{"a", "c"}, {"c", "tanh"}, {"b", "d"}, {"tanh"}])
    assert (first.names, second.names) == (("a", "c"), ("b", "d"))
    assert (first.noise, first.work) == (0.6, 2.0)
    ((move,), *_) = (each.moves for each in levels([first, second]))
    assert [each.operator for each in move.places] == ["a", "c"]


def test_the_last_quantized_pattern_moves_to_a_finer_config_alone() -> None:
    finer = {"dynamic": 0.001}
    found = levels([pattern("a", 0.5), pattern("b", 0.4, noises=finer)])
    last = {each.places[0].operator: each.config for each in found[-1].moves}
    assert last == {"a": FLOAT, "b": "dynamic"}


def test_a_pattern_of_unknown_noise_may_be_the_worst() -> None:
    found = with_guesses([pattern("a", 0.5), pattern("b", 0.0), pattern("c", 0.1)], {"b"})
    assert [each.noise for each in found] == [0.5, 0.5, 0.1]


def test_levels_leave_less_and_less() -> None:
    found = levels([pattern(f"p{n}", 0.1 * 0.9**n) for n in range(60)])
    left = [each.left for each in found]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 3 * SMALLEST
    assert len({each.moves for each in found}) == len(found)
    assert levels([pattern("silent", 0.0)]) == []


def test_evaluations_of_an_earlier_search_count_too() -> None:
    patterns = [pattern(f"p{n}", 2.0**-n) for n in range(12)]
    spent = lambda trials: 4 + evaluations(trials)  # noqa: E731
    assert len(searched(patterns, lambda variant: 0.1, budget=8, spent=spent)) == 3
