"""Number the calls of an operator in a module, so that a scope can address a single one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from attrs import define, field

from qreg.graph.layers import INSERTED, part_of, row_of
from qreg.graph.nodes import computes_tensors
from qreg.graph.provenance import module_path, operators_of

if TYPE_CHECKING:
    from torch.fx import Graph, Node

Address: TypeAlias = tuple[str, str, int]  # module path, operator, ordinal
Rows: TypeAlias = "dict[tuple[str, str], dict[str, int]]"  # the ordinals of rows

UNNUMBERED = -1


@define
class Ordinals:
    """The calls of each operator in each module, numbered from 0 in the order of the graph.

    The operators of one row of reports, such as the products of a recurrent layer over its steps,
    are one call. Bodies of loops continue the numbers of the enclosing graph. Operators that an
    algorithm inserted have no number, so that they do not shift those of others.
    """

    _rows: Rows = field(factory=dict, init=False)
    _bodies: int = field(default=0, init=False)
    _of: WeakKeyDictionary[Graph, Mapping[str, tuple[Address, ...]]] = field(
        factory=WeakKeyDictionary, init=False
    )

    def start(self, graph: Graph) -> None:
        """Number the calls of a graph, which replaces all earlier numbers."""
        self._rows.clear()
        self._of.clear()
        self._bodies = 0
        self._of[graph] = _numbered(graph, self._rows)

    def resume(self, body: Graph) -> None:
        """Number the calls of the body of a loop, after those of the graphs so far."""
        self._bodies += 1
        self._of[body] = _numbered(body, self._rows, f"{self._bodies}.")

    def addresses(self, node: Node) -> tuple[Address, ...]:
        """Return the addresses of a call: one for each name of its operator.

        These are the overload, the packet, and those of the operator that a transform replaced.
        """
        if node.graph not in self._of:
            self._of[node.graph] = _numbered(node.graph, {})
        return self._of[node.graph].get(node.name, ())

    def counts(self) -> dict[tuple[str, str], int]:
        """Return the number of calls by module path and operator."""
        return {key: len(rows) for key, rows in self._rows.items()}


def _numbered(graph: Graph, rows: Rows, prefix: str = "") -> dict[str, tuple[Address, ...]]:
    """Return the addresses of each call by the name of its node, and update ``rows``."""
    found: dict[str, tuple[Address, ...]] = {}
    for node in filter(computes_tensors, graph.nodes):
        if node.meta.get(INSERTED):
            continue
        module, row = module_path(node), f"{prefix}{row_of(node)}"
        addresses = []
        for name in _names(node):
            numbers = rows.setdefault((module, name), {})
            addresses.append((module, name, numbers.setdefault(row, len(numbers))))
        found[node.name] = tuple(addresses)
    return found


def _names(node: Node) -> Iterator[str]:
    """Yield the operators of a node, as its Decision names them, and their packets."""
    part = part_of(node)
    names = [part.layer] if part and part.reason else operators_of(node)
    yield from dict.fromkeys([*names, *(name.rpartition(".")[0] for name in names)])
