"""The details of one node on the page, in groups of labels and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.report.page.numbers import decibels, share
from qreg.report.page.states import state_of
from qreg.utils.wording import speed, than

if TYPE_CHECKING:
    from qreg.report.values import Operator

Say = Callable[["Operator", int], "str | None"]


@frozen
class Detail:
    """A labelled text; ``say`` returns it for an operator and the model's multiply-accumulates."""

    group: str
    label: str
    say: Say


def _shape(operator: Operator, _: int) -> str | None:
    if operator.shape is None:
        return None
    return " x ".join("?" if size is None else str(size) for size in operator.shape) or "scalar"


def _macs(operator: Operator, total: int) -> str | None:
    counted = f"{operator.macs:,} ({share(operator.macs, total)})" if operator.macs else ""
    half = f"{operator.float_macs:,} of them in float" if operator.float_macs else ""
    left = f"not counted: {operator.uncounted}" if operator.uncounted else ""
    return "; ".join(filter(None, (counted, half, left))) or None


def _times(operator: Operator, _: int) -> str | None:
    if operator.microseconds is None:
        return None
    taken, plain = operator.microseconds, operator.float_microseconds
    if plain is None:
        return f"{taken:.0f} us"
    return f"{taken:.0f} us, {than(speed(taken, plain), 'float')} ({plain:.0f} us)"


def _sqnr(operator: Operator, _: int) -> str | None:
    return None if operator.sqnr is None else decibels(operator.sqnr)


def _isolated(operator: Operator, _: int) -> str | None:
    return None if operator.isolated_sqnr is None else decibels(operator.isolated_sqnr)


def _difference(operator: Operator, _: int) -> str | None:
    found = operator.largest_difference
    return None if found is None else f"{found:.3g}"


def _delegate(operator: Operator, _: int) -> str | None:
    return None if operator.delegate is None else str(operator.delegate)


DETAILS = (
    Detail("Decision", "status", lambda each, _: each.status),
    Detail("Decision", "reason", lambda each, _: each.reason),
    Detail("Decision", "annotator", lambda each, _: each.annotator),
    Detail("Decision", "distribution", lambda each, _: each.distribution),
    Detail("Decision", "config", lambda each, _: each.config),
    Detail("Program", "place", lambda each, _: state_of(each).meaning),
    Detail("Program", "lowered as", lambda each, _: each.lowered_as),
    Detail("Program", "precision", lambda each, _: each.precision),
    Detail("Program", "types", lambda each, _: each.types),
    Detail("Program", "delegate", _delegate),
    Detail("Numbers", "shape", _shape),
    Detail("Numbers", "dtype", lambda each, _: each.dtype),
    Detail("Numbers", "MACs", _macs),
    Detail("Numbers", "SQNR", _sqnr),
    Detail("Numbers", "largest difference", _difference),
    Detail("Numbers", "outputs, this pattern alone", _isolated),
    Detail("Numbers", "time", _times),
    Detail("Origin", "operator", lambda each, _: each.operator),
    Detail("Origin", "line", lambda each, _: each.source),
)


def texts(operator: Operator, total: int) -> Sequence[str | None]:
    """Return the texts of all details in order; None for a detail without a value."""
    return [detail.say(operator, total) for detail in DETAILS]
