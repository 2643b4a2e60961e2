"""Find the backends that a plugin adds to, by calling it with a name that no backend has.

A hook compares its ``backend`` argument with the names that the plugin knows. A misspelt name would
never be equal to a backend, and the plugin's values would be missing without a message.
"""

from __future__ import annotations

from collections.abc import Callable

NOBODY = "a-backend-of-nobody"


class _Probe(str):
    """A name that records the values it is compared with."""

    def __init__(self, _: str) -> None:
        self.seen: list[object] = []

    def __eq__(self, other: object) -> bool:
        self.seen.append(other)
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def compared(ask: Callable[[str], object]) -> list[str]:
    """Return the names with which a function compares its ``backend`` argument, each once."""
    probe = _Probe(NOBODY)
    ask(probe)
    return list(dict.fromkeys(name for name in probe.seen if isinstance(name, str)))
