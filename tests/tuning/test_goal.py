"""The limit on a metric, and what an evaluation may return."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from qreg.errors import EvaluationError, InputError
from qreg.tuning.evaluation import check_evaluate, measured
from qreg.tuning.goal import Wanted


@pytest.mark.parametrize(
    ("wanted", "float_metric", "limit"),
    [
        (Wanted(), 0.8, 0.792),
        (Wanted(max_drop=0.1), 0.8, 0.72),
        (Wanted(max_drop=0.1, relative=False), 0.8, 0.7),
        (Wanted(max_drop=0.1, lower_is_better=True), 20.0, 22.0),
        (Wanted(max_drop=0.1), -2.0, -2.2),  # a log-likelihood
        (Wanted(target=0.75), 0.8, 0.75),
        (Wanted(max_drop=0.0), 0.0, 0.0),
    ],
)
def test_the_limit_is_relative_to_float_unless_told_otherwise(
    wanted: Wanted, float_metric: float, limit: float
) -> None:
    goal = wanted.goal(float_metric)
    assert goal.limit == pytest.approx(limit)
    assert goal.meets(float_metric)
    worse = limit + 0.01 if wanted.lower_is_better else limit - 0.01
    assert not goal.meets(worse)
    assert goal.drop(worse) == pytest.approx(abs(float_metric - worse))


def test_what_is_better_than_float_is_no_drop() -> None:
    goal = Wanted(max_drop=0.1).goal(0.8)
    assert goal.drop(0.9) == 0.0
    assert not goal.meets(math.nan)
    assert not goal.meets(None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wanted(max_drop=0.1, target=1.0), "both are given"),
        (lambda: Wanted(max_drop=-0.1), "max_drop: it is -0.1"),
        (lambda: Wanted(max_drop=math.nan), "max_drop: it is nan"),
        (lambda: Wanted(target="high"), "target: it is 'high'"),
        (lambda: Wanted(target=0.9).goal(0.8), "which the float model misses with 0.8"),
        (lambda: Wanted(max_drop=0.1).goal(0.0), "relative to the float metric, which is 0"),
    ],
)
def test_a_limit_that_makes_no_sense_is_an_error(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int64(3), True])
def test_any_number_is_a_metric(value: Any) -> None:
    assert measured(lambda model: value, abs, "the model") == float(value)


def test_the_model_is_what_is_evaluated() -> None:
    assert measured(lambda model: model(-3.0), abs, "the model") == 3.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor(0.5), r"it returned a tensor for the model .*Return value.item\(\)"),
        ("0.5", "it returned '0.5' for the model"),
        (None, "it returned None"),
        (math.nan, "it returned NaN"),
        (1j, "it returned 1j"),
        (10**400, "beyond the range"),
    ],
)
def test_what_is_not_a_number_is_an_error(value: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        measured(lambda model: value, abs, "the model")


def test_an_error_of_the_users_is_chained() -> None:
    def evaluate(model: Any) -> float:
        raise KeyError("labels")

    with pytest.raises(EvaluationError, match=r"it raised KeyError: 'labels'") as caught:
        measured(evaluate, abs, "the model")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(EvaluationError, match="it raised SystemExit: 0"):
        measured(lambda model: sys.exit(0), abs, "the model")
    with pytest.raises(InputError, match=r"evaluate: it is 0\.9"):
        check_evaluate(0.9)
