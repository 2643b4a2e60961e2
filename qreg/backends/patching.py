"""Changes to a library for the time of a lowering, where it offers no other way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Change: TypeAlias = tuple[Any, str, Callable[[Any], Any]]

_one_at_a_time = threading.RLock()  # what is changed is the same for all threads


@contextmanager
def patched(*changes: Change) -> Iterator[None]:
    """Replace attributes of modules and classes, and restore them on exit.

    A change is an owner, the name of an attribute, and a function that is called with the attribute
    and returns its replacement. Other threads that patch wait until the exit.
    """
    with _one_at_a_time:
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
        try:
            for owner, name, replacement in changes:
                setattr(owner, name, replacement(getattr(owner, name)))
            yield
        finally:
            for owner, name, value in reversed(before):
                setattr(owner, name, value)
