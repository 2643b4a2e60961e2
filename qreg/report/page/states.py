"""The states of operators, and how the page distinguishes them.

Each state has a separate shape, border and label, so that nothing depends on colour.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from qreg.report.values import Operator, ReportData


@frozen
class State:
    """A state of an operator; ``shape`` and ``border`` are names of the drawing library."""

    key: str
    label: str
    meaning: str
    shape: str
    border: str


STATES = (
    State("int8", "int8", "computes on quantized values", "round-rectangle", "solid"),
    State("float", "float", "runs in float in a delegate", "cut-rectangle", "solid"),
    State("outside", "outside", "is not delegated", "hexagon", "double"),
    State(
        "gone",
        "gone",
        "eliminated: it does nothing, or was fused into another operator",
        "ellipse",
        "dotted",
    ),
    State(
        "to-int8",
        "int8, decided",
        "decided for int8; no program was made",
        "round-rectangle",
        "dashed",
    ),
    State(
        "to-float",
        "float, decided",
        "decided for float; no program was made",
        "cut-rectangle",
        "dashed",
    ),
    State("input", "input", "an input of the model", "rhomboid", "solid"),
)
BY_KEY = {state.key: state for state in STATES}


def state_of(operator: Operator) -> State:
    decided = "to-int8" if operator.quantized else "to-float"
    return BY_KEY[operator.place or decided]


def counted(report: ReportData) -> Counter[str]:
    """Return the number of nodes in each state."""
    found = Counter(state_of(each).key for each in report.operators)
    found["input"] = len(model_inputs(report))
    return found


def model_inputs(report: ReportData) -> list[str]:
    """Return the names of the model inputs, which operators read."""
    operators = {each.name for each in report.operators}
    read = dict.fromkeys(name for each in report.operators for name in each.inputs)
    return [name for name in read if name not in operators]
