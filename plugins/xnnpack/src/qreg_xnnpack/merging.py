"""Decide with one bit for each node whether two partitions of a graph can be merged.

The partitioner (executorch 1.4.1, on that of torch 2.13) holds the set of all nodes downstream of
each node, twice, and of all nodes upstream. The sets grow with the square of the number of nodes:
for a language model of 24 blocks they take 430 MB. For each merge, it walks through them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg.backends.patching import patched
from qreg_xnnpack.compat import group_partitioner, viewers_of_dependencies

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


def merged_by_bits() -> AbstractContextManager[None]:
    """Patch the partitioner's sets of nodes, and its check of a merge, during a lowering."""
    viewers = [(*place, lambda _: Dependencies) for place in viewers_of_dependencies()]
    check = (group_partitioner(), "_can_merge_partitions", lambda _: _can_merge)
    return patched(*viewers, check)


def _can_merge(itself: Any, one: int, other: int, partitions: dict[int, Any]) -> bool:
    viewer: Dependencies = itself.dependency_viewer
    return viewer.can_merge(partitions[one], partitions[other])


@frozen
class Span:
    """The nodes of a partition, and all nodes downstream and upstream of these, as bits."""

    count: int
    inside: int
    after: int
    before: int

    def joined(self, other: Span) -> Span:
        return Span(
            self.count + other.count,
            self.inside | other.inside,
            self.after | other.after,
            self.before | other.before,
        )

    @property
    def has_cycle(self) -> bool:
        """Whether a path leaves the partition and returns to it."""
        return bool(self.after & self.before & ~self.inside)


class Dependencies:
    """The nodes downstream and upstream of each node of a graph, as integers of one bit each."""

    def __init__(self, graph_module: GraphModule) -> None:
        nodes = list(graph_module.graph.nodes)
        self._bits = {node: 1 << number for number, node in enumerate(nodes)}
        self._after: dict[Node, int] = {}
        self._before: dict[Node, int] = {}
        for node in reversed(nodes):
            self._after[node] = self._union(node.users, self._after)
        for node in nodes:
            self._before[node] = self._union(node.all_input_nodes, self._before)
        self._spans: dict[int, Span] = {}

    def _union(self, nodes: Any, reached: dict[Node, int]) -> int:
        union = 0
        for each in nodes:
            union |= self._bits[each] | reached[each]
        return union

    def downstreams_of(self, node: Node) -> set[Node]:
        """Return all nodes that depend on a node."""
        return {each for each, bit in self._bits.items() if bit & self._after[node]}

    def upstreams_of(self, node: Node) -> set[Node]:
        """Return all nodes that a node depends on."""
        return {each for each, bit in self._bits.items() if bit & self._before[node]}

    def can_merge(self, one: Any, other: Any) -> bool:
        """Whether two partitions together have no cycle; if so, the first becomes both."""
        joined = self._span(one).joined(self._span(other))
        if not joined.has_cycle:
            self._spans[one.id] = joined
        return not joined.has_cycle

    def _span(self, partition: Any) -> Span:
        known = self._spans.get(partition.id)
        if known is None or known.count != len(partition.nodes):
            known = Span(0, 0, 0, 0)
            for node in partition.nodes:
                known = known.joined(
                    Span(1, self._bits[node], self._after[node], self._before[node])
                )
            self._spans[partition.id] = known
        return known
