"""Split the value of an option ``NAME=VALUE``."""

from __future__ import annotations

from qreg.errors import InputError


def pair(text: str, option: str = "--config", what: str = "BACKEND") -> tuple[str, str]:
    """Return the name and the config in ``NAME=CONFIG``. Raises ``InputError`` without a name."""
    name, equals, config = text.partition("=")
    if not (equals and name):
        raise InputError(
            f"{option} {text!r}: no {what.lower()} is named (expected {what}={config or text})"
        )
    return name, config
