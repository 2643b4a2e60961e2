"""Select the constants worth their size, so that folding does not enlarge a program needlessly."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

from qreg.folding.constants import ancestors, bytes_of, sources_of, storage_of
from qreg.graph.nodes import tensor_at
from qreg.graph.operators import ADDMM, CONV, LINEAR, MATMUL, TRANSPOSED
from qreg.plugins.operator_names import operator_name

MEGABYTE = 2**20
SHARE = 16  # folding may add one sixteenth of the bytes of all constants, or one megabyte

PADDED = ("aten.conv1d.padding", "aten.conv2d.padding", "aten.conv3d.padding")
PRODUCTS = frozenset({*CONV, *PADDED, *TRANSPOSED, *LINEAR, *ADDMM, *MATMUL})


def affordable(computed: Sequence[Node], constants: dict[Node, None]) -> list[Node]:
    """Return the constants worth folding, in the order of the graph.

    Constants with common sources are folded together or not at all, since together they free the
    sources that have no other users. Groups that add the fewest bytes come first, until the groups
    have added one sixteenth of the bytes of all constants, or one megabyte. So a table that is
    also read directly is not stored a second time because it is transposed for the output. And a
    mask of many megabytes, which one line of code computes, is not stored at all. A weight or bias
    of a compute operator is folded regardless of its size unless it is a view: computing it at
    each call costs more, and the runtime cannot quantize it per channel.
    """
    groups = _by_source(computed, constants)
    stored = sum(_storage_bytes(constants).values())
    budget = max(MEGABYTE, stored // SHARE)
    kept, chosen = _read_as_they_are(constants), set[Node]()
    for added, group in sorted(((_added(g, kept), g) for g in groups), key=lambda x: x[0]):
        if added <= budget:
            chosen.update(group)
            budget -= max(added, 0)
        else:
            chosen.update(each for each in group if _is_computed_weight(each))
    return [node for node in computed if node in chosen]


def _added(group: Sequence[Node], kept: set[int]) -> int:
    """Return the number of bytes that folding a group adds to the constants of a program."""
    read = _storage_bytes(ancestors(group))
    freed = sum(size for storage, size in read.items() if storage not in kept)
    return sum(bytes_of(node.meta["val"]) for node in group) - freed


def _read_as_they_are(constants: Iterable[Node]) -> set[int]:
    """Return the storages that are read by operators that are not constants themselves."""
    found = set(constants)
    attributes = (node for node in found if node.op == "get_attr")
    return {storage_of(node) for node in attributes if not found.issuperset(node.users)}


def _storage_bytes(nodes: Iterable[Node]) -> dict[int, int]:
    """Return the number of bytes that ``get_attr`` nodes among ``nodes`` read of each storage."""
    found = dict[int, int]()
    for node in nodes:
        if node.op == "get_attr":
            found[storage_of(node)] = max(bytes_of(tensor_at(node)), found.get(storage_of(node), 0))
    return found


def _is_computed_weight(node: Node) -> bool:
    is_read_by_a_product = any(operator_name(user.target) in PRODUCTS for user in node.users)
    return is_read_by_a_product and not _is_view(node)


def _is_view(node: Node) -> bool:
    """Whether a value shares the memory of a constant, through any slices and permutations."""
    while node.op == "call_function":
        sources = list(_aliased_by(node))
        if not sources:
            return False
        node = sources[0]
    return True


def _aliased_by(node: Node) -> Iterator[Node]:
    """Yield the arguments whose memory the result may share."""
    if node.target is operator.getitem:
        yield from node.all_input_nodes
    elif isinstance(node.target, OpOverload):
        for declared, value in zip(node.target._schema.arguments, node.args, strict=False):
            if declared.alias_info is not None and isinstance(value, Node):
                yield value


def _by_source(computed: Sequence[Node], constants: dict[Node, None]) -> list[list[Node]]:
    """Group the computed constants by common sources."""
    owner = dict[Any, Any]()

    def root(key: Any) -> Any:
        while owner.setdefault(key, key) is not key:
            owner[key] = key = owner[owner[key]]
        return key

    for node in constants:
        if node.op == "get_attr":
            owner[root(node)] = root(("storage", storage_of(node)))
        for source in sources_of(node):
            owner[root(source)] = root(node)
    groups = defaultdict[Any, list[Any]](list)
    for node in computed:
        groups[root(node)].append(node)
    return list(groups.values())
