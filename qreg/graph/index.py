"""The operators and the constants of a graph, read in one walk."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Graph, Node


class GraphIndex:
    """The operators of a graph by name, and its constants, read in one walk.

    ``is_state`` tells which nodes have the memory of a buffer that the graph writes to.
    """

    def __init__(self, graph: Graph, is_state: Callable[[Node], bool] = lambda node: False) -> None:
        self.position: dict[Node, int] = {}
        self.constants: set[Node] = set()
        self._by_operator: dict[str, list[Node]] = defaultdict(list)
        for position, node in enumerate(graph.nodes):
            self.position[node] = position
            if _follows_constants(node, self.constants) and not is_state(node):
                self.constants.add(node)
            if node.op == "call_function":
                self._by_operator[operator_name(node.target)].append(node)

    def starting(self, operators: Iterable[str]) -> Iterator[Node]:
        """The nodes of these operators, in the order of the graph."""
        found = (self._by_operator[name] for name in operators if name in self._by_operator)
        return heapq.merge(*found, key=self.position.__getitem__)


def _follows_constants(node: Node, constants: set[Node]) -> bool:
    if node.op == "get_attr":
        return True
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and constants.issuperset(inputs)
