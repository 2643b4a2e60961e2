"""Find operators that choose between values: between equal ones, each backend chooses its own.

Values of 8 bits are often equal, so that a program may choose other elements than the model that it
was made from, and all that is read at their places differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from qreg.graph.nodes import called
from qreg.graph.provenance import origin
from qreg.graph.walks import reachable

if TYPE_CHECKING:
    from torch.fx import Node

CHOOSING = {
    *("aten.topk.default", "aten.sort.default", "aten.sort.stable", "aten.argsort.default"),
    *("aten.argmax.default", "aten.argmin.default", "aten.max.dim", "aten.min.dim"),
    *("aten.kthvalue.default", "aten.median.dim"),
}


def choice_ahead_of(nodes: Iterable[Node]) -> Node | None:
    """Return an operator upstream of nodes, or among them, that chooses between values."""
    upstream = reachable(nodes, lambda node: node.all_input_nodes)
    return next((node for node in upstream if called(node) in CHOOSING), None)


def compared_by(choice: Node, quantized: Collection[str]) -> list[str]:
    """Return the operators in int8 that the compared values come from, the nearest ones.

    ``quantized`` are the names of all operators in int8 in the annotated graph.
    """

    def ahead(node: Node) -> Iterator[Node]:
        return iter(() if origin(node) in quantized else node.all_input_nodes)

    found = (str(origin(node)) for node in reachable(choice.all_input_nodes, ahead))
    return list(dict.fromkeys(name for name in found if name in quantized))
