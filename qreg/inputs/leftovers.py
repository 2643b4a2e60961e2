"""Find the part of a batch that a model takes, where the rest are labels and the like."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from attrs import frozen


@frozen
class Part:
    """An expression of ``batch`` for the part that the model takes, and what the rest is called."""

    keep: str
    rest: str


def part_of_tuple(given: Sequence[Any], takes: Callable[[Any], bool]) -> Part | None:
    """Return the first item, or else the first items, if the model takes them.

    ``takes`` returns whether a batch has the arguments of the model.
    """
    if len(given) < 2:
        return None
    if takes(given[0]):
        return Part("batch[0]", _items(1, len(given)))
    counts = range(len(given) - 1, 0, -1)
    fitting = (n for n in counts if takes(tuple(given[:n])))
    return next((Part(f"batch[:{n}]", _items(n, len(given))) for n in fitting), None)


def _items(start: int, end: int) -> str:
    return f"item {start}" if start == end - 1 else f"items {start} to {end - 1}"


def part_of_dict(
    given: Mapping[Any, Any], names: Collection[str], takes: Callable[[Any], bool]
) -> Part | None:
    """Return the arguments by name, or else the first value that the model takes."""
    if set(names) < set(given):
        return Part(_chosen(list(names)), _others(given, names))
    fitting = (name for name, value in given.items() if len(given) > 1 and takes(value))
    return next((Part(f"batch[{_quoted(n)}]", _others(given, [n])) for n in fitting), None)


def _chosen(names: list[str]) -> str:
    if len(names) == 1:
        return f"{{{_quoted(names[0])}: batch[{_quoted(names[0])}]}}"
    return f"{{name: batch[name] for name in ({', '.join(map(_quoted, names))})}}"


def _others(given: Mapping[Any, Any], names: Collection[str]) -> str:
    return ", ".join(str(name) for name in given if name not in names)


def _quoted(name: Any) -> str:
    return f'"{name}"' if isinstance(name, str) else repr(name)
