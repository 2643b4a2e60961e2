"""Messages and the warning for a program that is far from the float model."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from qreg.errors import InputError, QualityWarning, keeping_in_float

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qreg.verification.drops import Drop
    from qreg.verification.metrics import OutputComparison
    from qreg.verification.verify import Verification


FLOAT = "float model"
IN_GENERAL = (
    "Keep the most sensitive operators in float, with "
    'quantizer.set_module_name("NAME", None): qreg.explain with sensitivity=True shows them.'
)

TRY = 'Pass algorithms="auto" to try what brings it closer to float. '


def check_min_sqnr(value: float, name: str = "min_sqnr") -> None:
    """Raise ``InputError`` if ``value`` is not a finite, nonnegative number of decibels.

    ``name`` is the user's name for the argument.
    """
    check_floor(value, name)
    if value < 0:
        raise _not_decibels(name, f"{value!r} is negative: more noise than signal is never good")


def check_floor(value: float, name: str = "floor") -> None:
    """Raise ``InputError`` if ``value`` is not a finite number of decibels."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise _not_decibels(name, f"{value!r} is not a number")
    if math.isinf(value):
        raise _not_decibels(name, f"{value!r} is infinite: quantizing always adds noise")


def _not_decibels(name: str, problem: str) -> InputError:
    return InputError(
        f"{name}: {problem} (expected decibels, such as 10.0). Omit it for the default."
    )


def warn_if_poor(
    found: Verification, advice: str = "", reference: str = FLOAT, *, tried: bool = True
) -> None:
    """Issue a ``QualityWarning`` for a program whose verdict is not good.

    ``advice`` replaces the default remedy, which names the operators of ``found.drops``. ``tried``
    is as for :func:`remedy`. The warning is attributed to the line that called the caller.
    """
    if not found.good:
        message = f"{shortfall(found, reference)}. {advice or remedy(found, tried=tried)}"
        warnings.warn(QualityWarning(message, found), stacklevel=4)  # the caller of the caller


def shortfall(found: Verification, reference: str = FLOAT) -> str:
    """Return a sentence, without its full stop, on how far each poor output is from float."""
    listed = "; ".join(_outputs(found, reference))
    return f"{listed} (expected at least {found.min_sqnr:g} dB)"


def _outputs(found: Verification, reference: str) -> Iterator[str]:
    for number in found.poor:
        described = _described(found.to_float[number], reference)
        yield f"output {number} of the program is {described}"


def _described(output: OutputComparison, reference: str) -> str:
    whole = f"{_plain(output.sqnr)} dB from the {reference}"
    part = output.worst_slice
    if part is None or part.sqnr >= output.sqnr:
        return whole
    return f"{whole}, {_plain(part.sqnr)} dB in its slice {part.index} along axis {part.axis}"


def remedy(found: Verification, *, tried: bool) -> str:
    """Return the remedy for a poor program: which operators to keep in float, and how.

    ``tried`` is whether algorithms were tried; they are the first remedy otherwise.
    """
    return f"{'' if tried else TRY}{_keeping(found)}"


def _keeping(found: Verification) -> str:
    if not found.drops:
        return IN_GENERAL
    named = ", ".join(map(_named, found.drops))
    line = keeping_in_float([each.keep for each in found.drops])
    measured = "The SQNR" if found.far else "The SQNR of the worst slice"
    return f"{measured} drops most at {named}. {line}"


def _named(drop: Drop) -> str:
    place = f" in module {drop.module!r}" if drop.module else ""
    return f"{drop.node} ({drop.operator}{place}, {_levels(drop)})"


def _levels(drop: Drop) -> str:
    if math.isinf(drop.before):
        return f"to {_plain(drop.after)} dB"
    return f"from {_plain(drop.before)} to {_plain(drop.after)} dB"


def _plain(sqnr: float) -> str:
    return f"{sqnr:.1f}" if abs(sqnr) >= 0.05 else "0.0"
