"""Partitions of the delegate that depend on each other, split into parts that do not.

The partitioner (executorch 1.4.1) also joins operators that are not connected, such as those of two
branches. Two such partitions may each need a result of the other: fusing them then fails with
"Invalid partition, found dependency cycles".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qreg.backends.patching import patched
from qreg.graph.walks import reachable

if TYPE_CHECKING:
    from torch.fx import Graph, Node

TAG = "delegation_tag"  # executorch 1.4.1

Edges = dict[Hashable, set[Hashable]]


def without_cycles() -> AbstractContextManager[None]:
    """Split the partitions that depend on each other, during a lowering."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return patched((XnnpackPartitioner, "partition", _split_afterwards))


def _split_afterwards(partition: Callable[..., Any]) -> Callable[..., Any]:
    def replacement(itself: Any, program: Any) -> Any:
        result = partition(itself, program)
        split_cycles(result.tagged_exported_program.graph, result.partition_tags)
        return result

    return replacement


def split_cycles(graph: Graph, tags: dict[str, Any]) -> None:
    """Give each connected part of the partitions in a cycle a separate tag.

    ``tags`` has the specification of each tag; those of new tags are added.
    """
    for tag in sorted(each for each in _in_cycles(graph) if isinstance(each, str)):
        _first, *others = _connected([node for node in graph.nodes if node.meta.get(TAG) == tag])
        for number, nodes in enumerate(others, 1):
            tags[f"{tag}_{number}"] = tags[tag]
            for node in nodes:
                node.meta[TAG] = f"{tag}_{number}"


def _in_cycles(graph: Graph) -> set[Hashable]:
    """Return the partitions and nodes on cycles, or between two cycles."""
    after: Edges = {}
    before: Edges = {}
    for node in graph.nodes:
        for source in node.all_input_nodes:
            ends = _vertex(source), _vertex(node)
            if ends[0] != ends[1]:
                after.setdefault(ends[0], set()).add(ends[1])
                before.setdefault(ends[1], set()).add(ends[0])
    return _never_free(before, after) & _never_free(after, before)


def _never_free(edges: Edges, opposite: Edges) -> set[Hashable]:
    """Return the vertices that stay when those without edges are removed one after another."""
    counts = {each: len(edges.get(each, ())) for each in {*edges, *opposite}}
    free = [each for each, count in counts.items() if not count]
    while free:
        for each in opposite.get(free.pop(), ()):
            counts[each] -= 1
            if not counts[each]:
                free.append(each)
    return {each for each, count in counts.items() if count}


def _vertex(node: Node) -> Hashable:
    vertex: Hashable = node.meta.get(TAG, node)
    return vertex


def _connected(nodes: Sequence[Node]) -> list[set[Node]]:
    """Return the connected parts of some nodes, each through edges between these nodes."""
    inside, left = set(nodes), dict.fromkeys(nodes)
    parts = []
    while left:
        part = set(reachable([next(iter(left))], lambda each: inside & _neighbours(each)))
        parts.append(part)
        for node in part:
            del left[node]
    return parts


def _neighbours(node: Node) -> set[Node]:
    return {*node.all_input_nodes, *node.users}
