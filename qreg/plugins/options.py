"""The options of a backend: values set by the user, checked, and defaults for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from qreg.errors import InputError, UnknownNameError
from qreg.plugins.types.backend import Backend, Option

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def complete(backend: Backend, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each option of a backend.

    Raises ``UnknownNameError`` for an unknown option, and ``InputError`` for a value that the
    option does not accept.
    """
    known = {option.name: option for option in backend.options}
    for name in given:
        if name not in known:
            remedy = f"`qreg ops {backend.name}` lists them."
            raise UnknownNameError(f"option of backend {backend.name!r}", name, known, remedy)
    return {name: _checked(option, given.get(name)) for name, option in known.items()}


def _checked(option: Option, value: Any) -> str | int | float | bool:
    if value is None:
        return option.default
    kind = type(option.default)
    if type(value) is not kind:
        raise InputError(f"option {option.name} is {value!r} (expected type {kind.__name__})")
    if option.choices and value not in option.choices:
        raise InputError(f"option {option.name} is {value!r} (expected {_listed(option)})")
    if option.least is not None and float(value) < option.least:
        raise InputError(f"option {option.name} is {value!r} (expected {option.least:g} or more)")
    return value


def _listed(option: Option) -> str:
    return " or ".join(map(repr, option.choices))


def given_to(
    backend: Backend, options: Mapping[str, Any], at: Literal["lower", "load"]
) -> dict[str, Any]:
    """Return the options that lowering, or loading, is called with."""
    return {each.name: options[each.name] for each in backend.options if each.at == at}


def parsed(backend: Backend, texts: Iterable[str]) -> dict[str, Any]:
    """Return the options in texts like ``opset=21``, as on a command line.

    Raises ``InputError`` for a text of another form or a value of another type.
    """
    types = {option.name: type(option.default) for option in backend.options}
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"option {text!r} has no value (expected {text}=VALUE)")
        found[name] = _read(name, value, types.get(name, str))
    return found


def _read(name: str, text: str, kind: type) -> Any:
    try:
        return WORDS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as cause:
        raise InputError(f"option {name} is {text!r} (expected type {kind.__name__})") from cause
