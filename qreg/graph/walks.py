"""Walk graphs with nodes of any kind: of fx, of a lowered program, or names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def reachable(start: Iterable[T], neighbours: Callable[[T], Iterable[T]]) -> Iterator[T]:
    """Yield the nodes of ``start`` and all nodes reachable from them, each once.

    ``neighbours`` is called with a node after the node has been yielded, so that a caller can stop
    the walk early. The order is depth first, starting with the last neighbour.
    """
    waiting = list(dict.fromkeys(start))
    seen = set(waiting)
    while waiting:
        each = waiting.pop()
        yield each
        fresh = dict.fromkeys(other for other in neighbours(each) if other not in seen)
        seen.update(fresh)
        waiting += fresh
