"""The order in which annotators are called."""

from __future__ import annotations

from collections.abc import Iterable

from qreg.errors import (
    OrderError,
)
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotator


def in_order(annotators: Iterable[Supplied[Annotator]]) -> list[Supplied[Annotator]]:
    """Return the annotators in their given order, moved only as far as before/after require.

    Raises ``OrderError`` with the cycle if these contradict each other. An unknown name is ignored:
    it may belong to a plugin that is not installed.
    """
    by_name = {supplied.value.name: supplied for supplied in annotators}
    earlier: dict[str, list[str]] = {name: [] for name in by_name}
    for name, supplied in by_name.items():
        earlier[name] += [other for other in supplied.value.after if other in by_name]
        for other in supplied.value.before:
            if other in by_name:
                earlier[other].append(name)
    ordered: dict[str, Supplied[Annotator]] = {}
    path: list[str] = []

    def place(name: str) -> None:
        if name in ordered:
            return
        if name in path:
            raise OrderError([*path[path.index(name) :], name])
        path.append(name)
        for other in earlier[name]:
            place(other)
        ordered[path.pop()] = by_name[name]

    for name in by_name:
        place(name)
    return list(ordered.values())
