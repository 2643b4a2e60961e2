"""Finds out which backends a plugin adds to, by asking it for one that nobody has.

A hook that is asked for a backend compares its name with those that the plugin knows. A misspelt
one is equal to no backend, and its values would be missing without a word.
"""

from __future__ import annotations

from collections.abc import Callable

NOBODY = "a-backend-of-nobody"


class _Probe(str):
    """A name that remembers what it is compared with."""

    def __init__(self, _: str) -> None:
        self.seen: list[object] = []

    def __eq__(self, other: object) -> bool:
        self.seen.append(other)
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def compared(ask: Callable[[str], object]) -> list[str]:
    """The names that a function compares the name of a backend with, each once."""
    probe = _Probe(NOBODY)
    ask(probe)
    return list(dict.fromkeys(name for name in probe.seen if isinstance(name, str)))
