"""The distribution of this library, and whether another one is installed over it.

On the package index, the name ``qreg`` belongs to another library, of 2016. It has the same import
name: ``pip install qreg`` overwrites ``qreg/__init__.py``, and ``pip uninstall qreg`` removes it.
"""

from __future__ import annotations

import os
import sys
import warnings

HOST = "qreg-core"  # the distribution of this library, whose version plugins depend on
OTHER = "qreg"
REMEDY = f"Run `pip uninstall {OTHER}`, then `pip install --force-reinstall --no-deps {HOST}`."


def warn_of_another() -> None:
    """Warn if the other library is installed in the folder of this one.

    The names of its metadata are enough: reading metadata would double the time of the import.
    """
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in os.listdir(folder):
        if name.startswith(f"{OTHER}-") and name.endswith("-info"):
            warnings.warn(
                f"qreg: another library of this name is installed in its folder too, as {name} "
                f"(expected {HOST!r} alone). {REMEDY}",
                stacklevel=3,
            )


def check_own() -> None:
    """Raise ``InstallationError`` if ``qreg/__init__.py`` is missing, or another library's."""
    from qreg.errors import InstallationError

    package = sys.modules["qreg"]
    if "hookimpl" not in dir(package):
        fault = "is that of another library" if package.__file__ else "is missing"
        raise InstallationError(f"qreg/__init__.py {fault} (expected that of {HOST!r}). {REMEDY}")
