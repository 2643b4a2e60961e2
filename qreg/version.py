"""The version of this library, by the name that ``pip`` knows it by."""

from importlib.metadata import version

from qreg.identity import HOST

__version__: str = version(HOST)
"""The version of the distribution `qreg-core`."""
