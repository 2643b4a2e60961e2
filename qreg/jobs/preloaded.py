"""Silence the imports of the server that new processes are forked from; it imports this first."""

from qreg.utils.logging import quiet_imports

quiet_imports()
