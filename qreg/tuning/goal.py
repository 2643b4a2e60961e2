"""The limit that a program's metric has to meet. Does not import torch."""

from __future__ import annotations

import math
from numbers import Real

from attrs import frozen

from qreg.errors import EvaluationError, InputError

MAX_DROP = 0.01


@frozen
class Wanted:
    """What a user asks for: a largest drop against the float model, or a metric to reach.

    ``max_drop`` is relative to the magnitude of the float metric, or, if not ``relative``, in the
    units of the metric. Raises ``InputError`` for both or numbers that are none.
    """

    max_drop: float | None = None
    target: float | None = None
    relative: bool = True
    lower_is_better: bool = False

    def __attrs_post_init__(self) -> None:
        if self.max_drop is not None and self.target is not None:
            raise InputError("max_drop and target: both are given (expected one). Omit one of them")
        for name in ("max_drop", "target"):
            _check_number(name, getattr(self, name))
        if self.max_drop is not None and self.max_drop < 0:
            raise InputError(f"max_drop: it is {self.max_drop} (expected 0 or more)")

    def goal(self, float_metric: float) -> Goal:
        """Return the goal for a float model.

        Raises ``InputError`` for a target that the float model misses, and for a relative drop from
        0, and ``EvaluationError`` for an infinite metric, from which there is no drop.
        """
        if math.isinf(float_metric):
            raise EvaluationError("the float model", f"it returned {float_metric}")
        if self.target is not None:
            goal = Goal(float_metric, float(self.target), self.lower_is_better)
            if not goal.meets(float_metric):
                raise InputError(
                    f"target: it is {self.target:g}, which the float model misses with "
                    f"{float_metric:g}. Quantization does not improve a model: choose a target "
                    "that float meets"
                )
            return goal
        drop = MAX_DROP if self.max_drop is None else self.max_drop
        if self.relative and not float_metric and drop:
            raise InputError(
                "max_drop: it is relative to the float metric, which is 0. "
                "Pass relative=False to give it in the units of the metric"
            )
        drop *= abs(float_metric) if self.relative else 1.0
        limit = float_metric + drop if self.lower_is_better else float_metric - drop
        return Goal(float_metric, limit, self.lower_is_better)


def _check_number(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, Real) or not math.isfinite(value)):
        raise InputError(f"{name}: it is {value!r} (expected a finite number)")


@frozen
class Goal:
    """The metric of the float model, and the worst metric that is accepted."""

    float_metric: float
    limit: float
    lower_is_better: bool

    def meets(self, metric: float | None) -> bool:
        """Whether a metric is within the limit; None and NaN are not."""
        if metric is None or math.isnan(metric):
            return False
        return metric <= self.limit if self.lower_is_better else metric >= self.limit

    def drop(self, metric: float) -> float:
        """Return how much worse than float a metric is; 0 if it is not worse."""
        lost = metric - self.float_metric if self.lower_is_better else self.float_metric - metric
        return max(lost, 0.0)

    @property
    def allowed(self) -> float:
        """The drop at the limit."""
        return self.drop(self.limit)
