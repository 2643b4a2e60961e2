"""Memory that is free, but that the process has not returned to the system.

glibc keeps what is freed below the end of its heap, which after the conversion of a large model is
as much as half of the model. Its ``malloc_trim`` returns whole pages from anywhere in the heap.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


def return_freed() -> None:
    """Return freed memory to the system, in milliseconds; do nothing without glibc."""
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # TypeError: Windows has no library of the process itself
        return None
