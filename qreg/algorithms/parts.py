"""The values of a statistic in parts, one of which is in memory at a time.

Statistics are those of the float model, so that passes over the data do not depend on each other:
each collects the values of the operators, in the order of the graph, that fit into memory together.
A pass ends at the last operator of its part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from attrs import Factory, define, evolve, field, frozen
from torch.fx import GraphModule, Node

from qreg.algorithms.collecting import Collected, Collecting
from qreg.errors import AlgorithmError
from qreg.graph.prepared import copied
from qreg.plugins.types.algorithm import Statistic

Part: TypeAlias = tuple[str, ...]  # the names of operators

LEAST = 256 * 2**20  # bytes, into which the values of small models fit
SHARE = 4  # of the float model, whose fourth part larger ones have


@frozen
class Division:
    """The parts of each statistic of a prepared model that declares the sizes of its values."""

    prepared: GraphModule
    parts: Mapping[Statistic, Sequence[Part]]

    @property
    def first(self) -> Mapping[str, Part]:
        """The operators of the first part of each statistic, by its name."""
        return {each.name: parts[0] for each, parts in self.parts.items()}

    @property
    def is_whole(self) -> bool:
        """Whether all values fit into memory together."""
        return all(len(parts) == 1 for parts in self.parts.values())

    def completed(self, found: Collected, batches: Iterable[tuple[Any, ...]]) -> Collected:
        """Return statistics whose first parts were found, with the others, once they are read.

        ``batches`` are those that the statistics were updated with, and can be read again.
        """
        prepared = copied(self.prepared)  # the original may be converted later
        lazy = {
            each.name: Parts(
                parts, partial(collected, prepared, each, batches), found.values[each.name]
            )
            for each, parts in self.parts.items()
        }
        return evolve(found, values={**found.values, **lazy})


def divided(prepared: GraphModule, statistics: Iterable[Statistic], most: int) -> Division:
    """Divide the values of each statistic into parts of at most ``most`` bytes.

    Raises ``AlgorithmError`` for a statistic whose sizes cannot be computed.
    """
    parts = {each: _parts(prepared, each, most) for each in statistics if each.size}
    return Division(prepared, {each: found for each, found in parts.items() if found})


def budget(parameters: int) -> int:
    """Return the bytes for the values of a statistic, for parameters of so many bytes."""
    return max(LEAST, parameters // SHARE)


def _parts(prepared: GraphModule, statistic: Statistic, most: int) -> list[Part]:
    """Return the operators that have values, in order; a value above ``most`` is a part alone."""
    parts: list[list[str]] = []
    left = 0
    for node, size in _sizes(prepared, statistic):
        if size > left:
            parts.append([])
            left = most
        parts[-1].append(node.name)
        left = max(0, left - size)
    return [tuple(each) for each in parts]


def _sizes(prepared: GraphModule, statistic: Statistic) -> Iterator[tuple[Node, int]]:
    """Yield the operators that have values, with their bytes."""
    if statistic.size is None:
        return
    for node in prepared.graph.nodes:
        try:
            size = statistic.size(node) if node.op == "call_function" else 0
        except Exception as cause:  # raised by a plugin
            raise AlgorithmError(
                f"the size of its statistic {statistic.name!r} raised {cause!r} for {node.name!r}"
            ) from cause
        if size:
            yield node, size


def collected(
    prepared: GraphModule, statistic: Statistic, batches: Iterable[tuple[Any, ...]], part: Part
) -> Mapping[str, Any]:
    """Return the values of the operators of a part, in a pass that ends at the last of them.

    Raises ``AlgorithmError`` if the statistic fails.
    """
    name = statistic.name
    collecting = Collecting(prepared, [statistic], observing=False, only={name: part})
    with torch.no_grad():
        for batch in batches:
            collecting.run_to(part[-1], batch)
    found = collecting.collected
    if name in found.failed:
        raise AlgorithmError(found.failed[name])
    return found.values[name]


@define(eq=False)
class Parts(Mapping[str, Any]):
    """Values by the name of the operator; reading one of another part collects that part.

    ``held`` are the values of one part. Those who read the values in the order of the operators
    cause one pass for each part.
    """

    parts: Sequence[Part]
    collect: Callable[[Part], Mapping[str, Any]]
    held: Mapping[str, Any]
    _place: Mapping[str, Part] = field(
        default=Factory(lambda self: {n: p for p in self.parts for n in p}, takes_self=True),
        init=False,
    )

    def __getitem__(self, name: str) -> Any:
        part = self._place[name]
        if name not in self.held:
            self.held = {}  # no longer in memory while others are collected
            self.held = self.collect(part)
        return self.held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._place

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)
