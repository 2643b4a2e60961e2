"""Choose the ranges of what Arm's softmax computes from, so that masks leave the scores precise.

Arm's softmax is ``exp(x - amax(x))`` divided by its sum. A mask adds -10000 to the scores that it
hides, and a TOSA program in int8 cannot keep the masked scores in float. TOSA adds in int32 and
saturates, so the ranges may end where ``exp`` rounds to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from torchao.quantization.pt2e.observer import UniformQuantizationObserverBase
from torchao.quantization.pt2e.quantizer import QuantizationSpec, SharedQuantizationSpec

from qreg.annotators.masks import PRODUCTS
from qreg.graph.compat import annotation_of, made_by
from qreg.graph.nodes import argument, called, is_node, shape_of
from qreg.graph.operators import ADD, MOVES, SUB
from qreg.observers.scores import ScoresObserver

if TYPE_CHECKING:
    from torch.fx import Graph, Node

# Rows that the calibration data does not have may have lower maxima, by this much.
MARGIN = 4.0
# How far a mask reaches. Scores that differ by more are lost in int8, with a mask or without.
MASK = 128.0
COMBINED = frozenset({*ADD, *SUB, "aten.where.self"})
Bounded: TypeAlias = Callable[[QuantizationSpec], QuantizationSpec]


def bound_scores(graph: Graph) -> None:
    """Replace the observers of scores, of masks added to them, and of what ``exp`` reads."""
    products, softmaxes = _from_products(graph), list(_softmaxes(graph))
    readers = {each for shifted, _ in softmaxes for each in (shifted, shifted.args[1])}
    origins = {_origin(scores) for _, scores in softmaxes}
    readers |= {each for each in origins if _is_read_by(each, readers)}
    bounded = cache(_bounded)  # equal specs of a graph are one object
    for shifted, scores in softmaxes:
        spec: Any = annotation_of(shifted).output_qspec  # type: ignore[union-attr]
        if not _observes(spec):
            continue
        depth = math.log(4 * (spec.quant_max - spec.quant_min))  # exp(-depth) is a quarter step
        _set(shifted, partial(bounded, depth=depth))
        combined = _origin(scores)
        if called(combined) not in COMBINED or combined not in readers:
            continue
        reach = depth + MARGIN if _shares_with_scores_alone(combined, readers) else MASK
        _set(combined, partial(bounded, depth=reach))
        if called(combined) in ADD:
            for mask in set(combined.all_input_nodes) - products:
                if shape_of(mask) and _is_read_by(_origin(mask), readers):
                    _set(mask, partial(bounded, depth=MASK))


def _shares_with_scores_alone(combined: Node, readers: Container[object]) -> bool:
    """Whether nothing else reads what shares its qparams with masked scores."""
    sharing = combined.args[1:] if called(combined) == "aten.where.self" else ()
    return all(_is_read_by(_origin(each), readers) for each in sharing if is_node(each))


def _softmaxes(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Yield what each softmax along the last axis passes to ``exp``, and the scores it reads."""
    for node in graph.nodes:
        shifted = argument(node, 0) if called(node) == "aten.exp.default" else None
        if shifted is None or called(shifted) not in SUB or not annotation_of(shifted):
            continue
        scores, largest = shifted.args
        if called(largest) != "aten.amax.default" or largest.args[0] is not scores:
            continue
        if largest.args[1][0] in (-1, len(shape_of(scores)) - 1) and len(shifted.users) == 1:
            yield shifted, scores


def _from_products(graph: Graph) -> set[Node]:
    found: set[Node] = set()
    for node in graph.nodes:
        if called(node) in PRODUCTS or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _origin(node: Node) -> Node:
    """Return the operator whose output a node has in another shape."""
    while called(node) in MOVES:
        node = node.all_input_nodes[0]
    return node


def _is_read_by(scores: Node, readers: Container[object]) -> bool:
    """Whether nothing else reads scores, in whatever shape: their low values matter to others."""
    return all(
        user in readers or (called(user) in MOVES and _is_read_by(user, readers))
        for user in scores.users
    )


def _observes(spec: object) -> TypeGuard[QuantizationSpec]:
    """Whether a spec has an observer, rather than a fake quantization that is trained."""
    if not isinstance(spec, QuantizationSpec):
        return False
    kind, _ = made_by(spec.observer_or_fake_quant_ctr)
    return issubclass(kind, UniformQuantizationObserverBase)


def _bounded(spec: QuantizationSpec, depth: float) -> QuantizationSpec:
    _, arguments = made_by(spec.observer_or_fake_quant_ctr)
    kept = {name: value for name, value in arguments.items() if name == "eps"}
    make = ScoresObserver.with_args(depth=depth, **kept)
    return replace(spec, observer_or_fake_quant_ctr=make)


def _set(node: Node, bounded: Bounded) -> None:
    """Bound the range of a value, and of what shares its qparams upstream.

    Each place keeps the type that its scope has: int8 next to int16.
    """
    found = annotation_of(node)
    shared = None if found is None else found.output_qspec
    if isinstance(shared, SharedQuantizationSpec):
        _set_shared(shared.edge_or_node, bounded)
    elif found is not None and _observes(shared):
        found.output_qspec = bounded(shared)
    for user in node.users:
        _set_edge(node, user, bounded)


def _set_shared(place: Any, bounded: Bounded) -> None:
    if not isinstance(place, tuple):
        return _set(place, bounded)
    _, reader = place  # whose inputs share their qparams, as those of a where
    for source in annotation_of(reader).input_qspec_map:  # type: ignore[union-attr]
        _set(source, bounded)
    return None


def _set_edge(source: Node, reader: Node, bounded: Bounded) -> None:
    reads = annotation_of(reader)
    if reads is not None and _observes(spec := reads.input_qspec_map.get(source)):
        reads.input_qspec_map[source] = bounded(spec)
