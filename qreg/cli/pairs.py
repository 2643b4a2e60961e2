"""Split the value of an option ``NAME=VALUE``."""

from __future__ import annotations

from qreg.errors import InputError


def pair(text: str) -> tuple[str, str]:
    """Return the name of a backend and of its config. Raises ``InputError`` without a name."""
    backend, equals, config = text.partition("=")
    if not equals:
        raise InputError(f"--config {text!r}: no backend is named (expected BACKEND={text})")
    return backend, config
