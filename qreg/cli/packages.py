"""Optional packages, which some forms of data need."""

from __future__ import annotations

import importlib
from typing import Any

from qreg.errors import InputError


def needed(module: str, distribution: str, what: str) -> Any:
    """Import a module. Raises ``InputError``, with the way to install it, if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise InputError(
            f"reading {what} needs {module.partition('.')[0]}, which cannot be imported: {cause}. "
            f"pip install {distribution}"
        ) from cause
