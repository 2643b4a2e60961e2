"""Optional packages, which some functions need."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qreg.errors import InstallationError

TRANSFORMERS = "transformers>=5.23"  # the first with the exporters


@contextmanager
def needs(pip: str, what: str) -> Iterator[None]:
    """Raise ``InstallationError``, with the way to install it, if a package cannot be imported.

    ``pip`` is the package as pip accepts it, and ``what`` says what needs it.
    """
    try:
        yield
    except ImportError as cause:
        if isinstance(cause, InstallationError):
            raise
        raise InstallationError(
            f"{what}: an optional package cannot be imported, {cause} (expected {pip}). "
            f"pip install {pip!r}"
        ) from cause


def needed(module: str, pip: str, what: str) -> Any:
    """Import and return an optional module; raise as :func:`needs`."""
    with needs(pip, what):
        return importlib.import_module(module)
