"""Call a user's ``evaluate``, and check what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

from torch import Tensor

from qreg.errors import EvaluationError, InputError
from qreg.utils.traces import place

Model: TypeAlias = Callable[..., Any]
Evaluate: TypeAlias = Callable[[Model], float]


def check_evaluate(evaluate: object) -> None:
    """Raise ``InputError`` for something that is not a function."""
    if not callable(evaluate):
        raise InputError(
            f"evaluate: it is {evaluate!r} (expected a function). Pass a function of one argument, "
            "which is called like the model, that returns a number"
        )


def measured(evaluate: Evaluate, model: Model, what: str) -> float:
    """Return the metric of a model; ``what`` is what errors call it.

    Raises ``EvaluationError`` if ``evaluate`` raises, or returns something other than a number, or
    NaN.
    """
    try:
        found: object = evaluate(model)
    except (Exception, SystemExit) as cause:  # of the user's code, or of the program it calls
        said = f"it raised {type(cause).__name__}: {cause}".rstrip(".")
        problem = f"{said}{place(cause)},"
        raise EvaluationError(what, problem) from cause
    if isinstance(found, Tensor):
        raise EvaluationError(what, "it returned a tensor", "Return value.item()")
    if not isinstance(found, Real):
        raise EvaluationError(what, f"it returned {found!r}")
    try:
        metric = float(found)
    except OverflowError as cause:
        raise EvaluationError(what, "it returned a number beyond the range of float") from cause
    if math.isnan(metric):
        raise EvaluationError(what, "it returned NaN")
    return metric
