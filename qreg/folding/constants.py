"""Find the values of a graph that are the same in every call."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from qreg.graph.mutation import Mutations
from qreg.graph.nodes import is_random, tensor_at
from qreg.graph.walks import reachable

if TYPE_CHECKING:
    from torch.fx import Graph


# Operators that depend on the shape and type of their first argument, not on its values.
SHAPED = ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
UNDEFINED = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
# Changes a flag of a tensor but no values. Exporting torch.tensor(...) in a model inserts one.
DETACHES = "aten.detach_.default"


def constant_nodes(graph: Graph) -> dict[Node, None]:
    """Return the nodes whose value is the same in every call, in the order of the graph."""
    mutations, found = Mutations.of(graph), dict[Node, None]()
    for node in graph.nodes:
        if not mutations.is_written(node) and _is_constant(node, found):
            found[node] = None
    return found


def _is_constant(node: Node, constants: dict[Node, None]) -> bool:
    if node.op == "get_attr":
        return is_tensor(node)
    return (
        node.op == "call_function"
        and _is_pure(node)
        and all(source in constants for source in _read(node))
    )


def is_tensor(node: Node) -> bool:
    """Whether a ``get_attr`` node reads a tensor rather than the body of a loop or branch."""
    return isinstance(tensor_at(node), Tensor)


def _is_pure(node: Node) -> bool:
    """Whether a call computes tensors of static shapes from its arguments, without side effects.

    Only operators of ATen can qualify, which excludes those that quantize.
    """
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, OpOverload) or node.target.namespace != "aten":
        return False
    writes = node.target._schema.is_mutable and str(node.target) != DETACHES
    if writes or is_random(node.target):
        return False
    return _base_name(node) not in UNDEFINED and _is_static(node.meta.get("val"))


def _base_name(node: Node) -> str:
    return str(node.target).split(".")[1]


def _is_static(value: Any) -> bool:
    values = value if isinstance(value, (tuple, list)) else (value,)
    sizes = [size for each in values if isinstance(each, Tensor) for size in each.shape]
    tensors = all(isinstance(each, Tensor) for each in values)
    return tensors and all(isinstance(size, int) for size in sizes)


def _read(node: Node) -> Sequence[Node]:
    """Return the nodes whose values a call depends on."""
    sources = node.all_input_nodes
    if node.target is operator.getitem or _base_name(node) not in SHAPED:
        return sources
    return [each for each in sources if not _is_static(each.meta.get("val"))]


def ancestors(nodes: Iterable[Node]) -> set[Node]:
    """Return these nodes and all nodes that they are computed from."""
    return set(reachable(nodes, sources_of))


def sources_of(node: Node) -> Sequence[Node]:
    """Return the nodes whose values a node depends on."""
    return _read(node) if node.op == "call_function" else ()


def storage_of(node: Node) -> int:
    """Return the identity of the storage that a ``get_attr`` node reads."""
    return int(tensor_at(node).untyped_storage()._cdata)


def bytes_of(value: Tensor) -> int:
    return value.numel() * value.element_size()
