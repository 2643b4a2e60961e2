"""A user's metric, of the float model and of its program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from qreg.cli.code import imported

if TYPE_CHECKING:
    from qreg.cli.inputs import Inputs
    from qreg.pipeline.result import Result

EVALUATE = click.option(
    "--evaluate",
    metavar="MODULE:FUNCTION",
    help="Print this metric of the float model and of the program: a function of the model that "
    "returns a number.",
)


@frozen
class Metric:
    """A metric and its value for the float model, which is known before the program is made."""

    evaluate: Callable[..., Any]
    in_float: float

    def of(self, result: Result) -> Compared:
        """Evaluate a program in its runtime. Raises ``EvaluationError`` if the metric fails."""
        from qreg.tuning.evaluation import measured

        return Compared(self.in_float, measured(self.evaluate, result.run, "the program"))


@frozen
class Compared:
    """The metric of the float model and of the program."""

    in_float: float
    program: float

    def __str__(self) -> str:
        change = self.program - self.in_float
        return (
            f"metric: {self.in_float:.6g} in float, {self.program:.6g} as program ({change:+.3g})"
        )


def evaluated(name: str | None, inputs: Inputs, *, runs_here: bool) -> Metric | None:
    """Return the metric of that name for the float model, or None without a name.

    Raises ``InputError`` for a function that cannot be imported and for a backend that only
    compiles, and ``EvaluationError`` for a metric that fails.
    """
    if name is None:
        return None
    from qreg.errors import InputError
    from qreg.programs.export import exported
    from qreg.tuning.evaluation import measured
    from qreg.tuning.making import float_model

    evaluate = imported(name, "--evaluate")
    if not runs_here:
        raise InputError(
            "--evaluate: the backend only compiles (expected one that runs here). Omit --evaluate."
        )
    program, _ = exported(inputs.model, inputs.example, None)
    return Metric(evaluate, measured(evaluate, float_model(program), "the float model"))
