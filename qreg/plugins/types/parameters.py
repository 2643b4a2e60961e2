"""Parameters of an algorithm: plain values by name, which a recipe can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from qreg.errors import AlgorithmError, UnknownNameError

Plain: TypeAlias = bool | int | float | str
Parameter: TypeAlias = Plain | tuple[Plain, ...]

RESERVED = ("name", "in_process")  # keys of an algorithm in a recipe


def plain_parameters(given: Mapping[str, Any]) -> dict[str, Parameter]:
    """Convert parameters to plain values: sequences become tuples.

    Raises ``TypeError`` for a value that is not plain, and ``ValueError`` for a reserved name.
    """
    for name in RESERVED:
        if name in given:
            raise ValueError(f"a parameter is named {name!r}, which has a meaning in recipes")
    return {name: _plain(name, value) for name, value in given.items()}


def _plain(name: str, value: Any) -> Parameter:
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and all(
        isinstance(v, (bool, int, float, str)) for v in value
    ):
        return tuple(value)
    raise TypeError(
        f"parameter {name!r} is {value!r} (expected a bool, int, float or str, or a sequence of "
        "them)"
    )


def checked_parameters(
    algorithm: str, given: Mapping[str, Any], known: Mapping[str, Parameter]
) -> dict[str, Parameter]:
    """Return the known parameters of an algorithm, with given values in place of the defaults.

    An integer is accepted for a float. Raises ``UnknownNameError`` for an unknown name, and
    ``AlgorithmError`` for a value of another type than the default.
    """
    for name in given:
        if name not in known:
            remedy = "`qreg ops` lists the parameters with their defaults."
            raise UnknownNameError(f"parameter of algorithm {algorithm!r}", name, known, remedy)
    return {
        name: _like(default, given[name], f"parameter {name!r}", algorithm)
        if name in given
        else default
        for name, default in known.items()
    }


def _like(default: Parameter, value: Any, what: str, algorithm: str) -> Parameter:
    """Return a value as the type of a default."""
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)):
            raise AlgorithmError(f"its {what} is {value!r} (expected an array)", algorithm)
        if not default:
            return plain_parameters({what: value})[what]
        return tuple(_one_like(default[0], each, f"{what}: a value", algorithm) for each in value)
    return _one_like(default, value, what, algorithm)


def _one_like(default: Plain, value: Any, what: str, algorithm: str) -> Plain:
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise AlgorithmError(f"its {what} is {value!r} (expected {KINDS[kind]})", algorithm)


def check_within(
    algorithm: str, name: str, value: object, low: float, high: float = math.inf
) -> None:
    """Raise ``AlgorithmError`` for a number, or one of several, that is not within two limits.

    The limits are accepted, and NaN is not. Other values than numbers are left to other checks.
    """
    for each in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(each, (int, float)) and not low <= each <= high:
            wanted = f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise AlgorithmError(
                f"its parameter {name!r} is {value!r} (expected {wanted})", algorithm
            )


KINDS: dict[type, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
}
