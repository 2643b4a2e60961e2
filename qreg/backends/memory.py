"""Return the memory that a lowering frees to the system."""

from __future__ import annotations

from qreg.utils.memory import return_freed as return_freed
