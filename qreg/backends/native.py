"""What native libraries write to standard error, through Python's stream or past it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

STDERR = 2


@contextmanager
def silenced() -> Iterator[None]:
    """Discard what the process writes to standard error, of any language and thread.

    It is for a call that is known to write what users cannot act on, and that reports its errors
    otherwise.
    """
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDERR)
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(kept, STDERR)
        os.close(nowhere)
        os.close(kept)
