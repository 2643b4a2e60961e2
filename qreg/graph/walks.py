"""Walks over graphs of any kind of node: of fx, of a lowered program, of names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def reachable(start: Iterable[T], neighbours: Callable[[T], Iterable[T]]) -> Iterator[T]:
    """Yield the nodes of ``start`` and all that can be reached from them, each once.

    ``neighbours`` is called with a node after it has been yielded, so that a caller which stops
    early walks no further. Depth first, the last neighbour before the others.
    """
    waiting = list(dict.fromkeys(start))
    seen = set(waiting)
    while waiting:
        each = waiting.pop()
        yield each
        fresh = dict.fromkeys(other for other in neighbours(each) if other not in seen)
        seen.update(fresh)
        waiting += fresh
