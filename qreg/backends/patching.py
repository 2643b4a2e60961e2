"""Changes to a library for the time of a lowering, where it offers no other way."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import getattr_static
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
        before = [(owner, name, getattr_static(owner, name)) for owner, name, _ in changes]
        try:
            for owner, name, replacement in changes:
                setattr(owner, name, replacement(getattr(owner, name)))
            yield
        finally:
            for owner, name, value in reversed(before):
                setattr(owner, name, value)


@contextmanager
def quiet(
    *loggers: str, categories: Sequence[type[Warning]] = (Warning,), message: str = ""
) -> Iterator[None]:
    """Suppress warnings of these categories, and what loggers say below the level of errors.

    ``message`` is a regular expression for the start of the warnings, by default of all.
    """
    named = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in named]
    for logger in named:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in categories:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)
