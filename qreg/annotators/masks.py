"""Find the masks of a graph, which hide scores from a softmax by a large negative number.

In the sum of scores and such a mask, one scale has to represent both: all scores would share one
quantized value. A mask from the inputs of a program may hide nothing in the calibration data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from attrs import frozen

from qreg.graph.nodes import called, constants_of, sources, tensor_at
from qreg.graph.operators import (
    ADDMM,
    ATTENTION,
    CAT,
    CLAMPS,
    CONVOLUTIONS,
    DIV,
    DROPOUTS,
    IDENTITIES,
    LINEAR,
    MATMUL,
    MOVES,
    TRANSPOSED,
)
from qreg.graph.walks import reachable

if TYPE_CHECKING:
    from torch.fx import Graph, Node

# A tensor with this magnitude is a mask rather than values.
LARGEST_ELEMENT = 1e4
# exp(-50) is 2e-22, which no float32 sum of exponentials changes by. A bias of scores is smaller.
LARGEST_BIAS = 50.0

SOFTMAXES = frozenset(
    {
        *("aten.softmax.int", "aten._softmax.default", "aten._safe_softmax.default"),
        *("aten.log_softmax.int", "aten._log_softmax.default"),
    }
)
PRODUCTS = frozenset(
    {
        *(*CONVOLUTIONS, *TRANSPOSED, *LINEAR, *ADDMM, *MATMUL),
        *("aten.convolution.default", "aten.baddbmm.default", "aten.einsum.default"),
        *(*ATTENTION, "aten.embedding.default"),
    }
)
# Operators that fill in a number, and operators that pass a filled value on.
FILLING = frozenset(
    {
        *("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf"),
        *("aten.where.Scalar", "aten.masked_fill.Scalar", "aten.masked_fill.Tensor"),
        *("aten.mul.Tensor", "aten.full.default", "aten.scalar_tensor.default"),
    }
)
PASSING = frozenset(
    {
        *("aten.expand.default", "aten.slice.Tensor", "aten.unsqueeze.default"),
        *("aten.view.default", "aten.reshape.default", "aten.add.Tensor", "aten.sub.Tensor"),
        *("aten.to.dtype", "aten._to_copy.default", "aten.clone.default", "aten.alias.default"),
    }
)
# Operators between the scores and the softmax.
SCORING = frozenset(
    {
        *(*FILLING, *PASSING, *MOVES, *CLAMPS, *IDENTITIES, *DIV, *DROPOUTS, *CAT),
        *("aten.rsub.Scalar", "aten.max.other", "aten.maximum.default", "aten.minimum.default"),
    }
)


@frozen
class Masks:
    """The masks of a graph.

    ``scores`` are the nodes that a softmax reads, directly or through elementwise operators and
    views. ``filled`` may hold the minus infinity of a mask. ``computed`` are computed from inputs
    or from state, without a product, and are then combined with scores.
    """

    scores: frozenset[Node]
    filled: frozenset[Node]
    computed: frozenset[Node]

    @classmethod
    def of(cls, graph: Graph) -> Masks:
        """Return the masks of a graph, which are found once for one pass over it."""
        size, found = _found.get(graph, (0, None))
        if found is None or size != len(graph.nodes):
            found = _masks(graph)
            _found[graph] = len(graph.nodes), found
        return found

    def limit(self, node: Node) -> float:
        """Return the largest magnitude of a constant that an operator combines with values."""
        return LARGEST_BIAS if node in self.scores else LARGEST_ELEMENT


_found: WeakKeyDictionary[Graph, tuple[int, Masks]] = WeakKeyDictionary()


def forget_masks(graph: Graph) -> None:
    """Clear the cached masks of a graph, which are valid for one pass over the graph."""
    _found.pop(graph, None)


def reach(value: Any) -> float:
    """Return the largest magnitude of a number or floating-point constant; otherwise 0."""
    if isinstance(value, (int, float)):
        return abs(value)
    if getattr(value, "op", "") != "get_attr":
        return 0.0
    tensor = tensor_at(value).detach()
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    low, high = tensor.aminmax()
    return max(-float(low), float(high))


def _masks(graph: Graph) -> Masks:
    scores = frozenset(_scores(graph))
    filled = frozenset(_filled(graph, scores))
    return Masks(scores, filled, frozenset(_computed(graph, scores)) if scores else frozenset())


def _scores(graph: Graph) -> set[Node]:
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        name = called(node)
        if name in SOFTMAXES or (node in found and name in SCORING):
            found.update(node.all_input_nodes)
    return found


def _filled(graph: Graph, scores: frozenset[Node]) -> set[Node]:
    found: set[Node] = set()
    for node in graph.nodes:
        name = called(node)
        limit = LARGEST_BIAS if node in scores else LARGEST_ELEMENT
        filled = name in FILLING and any(reach(value) >= limit for value in node.args)
        if filled or (name in FILLING | PASSING and not found.isdisjoint(node.all_input_nodes)):
            found.add(node)
    return found


def _computed(graph: Graph, scores: frozenset[Node]) -> Iterator[Node]:
    products: set[Node] = set()
    for node in graph.nodes:
        if called(node) in PRODUCTS or not products.isdisjoint(node.all_input_nodes):
            products.add(node)

    combined = [node for node in scores if not products.isdisjoint(node.all_input_nodes)]
    if all(products.issuperset(sources(node)) for node in combined):
        return iter(())
    from qreg.graph.mutation import Mutations

    known = constants_of(graph, Mutations.of(graph).is_state)

    def others(node: Node) -> list[Node]:
        return [each for each in sources(node) if each not in known and each not in products]

    return reachable((each for node in combined for each in others(node)), others)
