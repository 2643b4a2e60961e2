"""The order in which annotators are called, and algorithms are run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from qreg.errors import OrderError
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.algorithm import Algorithm
from qreg.plugins.types.annotator import Annotator

Ordered = TypeVar("Ordered", Annotator, Algorithm)


def in_order(values: Iterable[Supplied[Ordered]], kind: str) -> list[Supplied[Ordered]]:
    """Return the values in their given order, moved only as far as before/after require.

    Raises ``OrderError`` with the cycle if these contradict each other. An unknown name is ignored:
    it may belong to a plugin that is not installed.
    """
    by_name = {supplied.value.name: supplied for supplied in values}
    earlier: dict[str, list[str]] = {name: [] for name in by_name}
    for name, supplied in by_name.items():
        earlier[name] += [other for other in supplied.value.after if other in by_name]
        for other in supplied.value.before:
            if other in by_name:
                earlier[other].append(name)
    ordered: dict[str, Supplied[Ordered]] = {}
    path: list[str] = []

    def place(name: str) -> None:
        if name in ordered:
            return
        if name in path:
            raise OrderError([*path[path.index(name) :], name], kind)
        path.append(name)
        for other in earlier[name]:
            place(other)
        ordered[path.pop()] = by_name[name]

    for name in by_name:
        place(name)
    return list(ordered.values())
