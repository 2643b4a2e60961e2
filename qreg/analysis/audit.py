"""Audit of a lowered program: where it runs each operator.

An annotation is a request; the operators of the lowered program show whether it was honoured. A
decision to quantize that did not end in int8 is a defect of the plugin that supplied the annotator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from qreg.graph.provenance import origin
from qreg.graph.walks import reachable
from qreg.plugins.types.decision import Decision
from qreg.plugins.types.program import Conversion, Lowered, LoweredOperator

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


Place = Literal["int8", "float", "outside", "gone"]

STATIC_DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"


@frozen
class Placement:
    """Where the lowered program runs one operator of the annotated graph.

    ``place`` is ``"int8"`` if it computes on quantized values, ``"float"`` in a delegate,
    ``"outside"`` if the operator is not delegated and in float, or ``"gone"`` if it was eliminated:
    it does nothing, or was fused into another operator. ``operator`` is the backend's name for it.
    ``types`` are the types of its tensors, as the backend spells them.
    """

    node: str
    place: Place
    operator: str = ""
    delegate: int | None = None
    types: str = ""


@frozen
class Split:
    """Float operators between int8 operators, which cost a conversion on either side.

    ``producers`` and ``consumers`` are the int8 operators. All names are nodes of the annotated
    graph.
    """

    operators: tuple[str, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]


@frozen
class Audit:
    """The place of every operator, and what the program could do better.

    ``defects`` are the decisions to quantize that did not end in int8. ``leftover`` are the
    conversions that are not on the border of an int8 part: those that are not delegated, and those
    from one set of qparams to another.
    """

    placements: Mapping[str, Placement] = field(repr=False)
    defects: tuple[Decision, ...]
    splits: tuple[Split, ...]
    conversions: tuple[Conversion, ...] = field(repr=False)

    @property
    def leftover(self) -> tuple[Conversion, ...]:
        return tuple(each for each in self.conversions if each.is_leftover)


def audit(decisions: Sequence[Decision], lowered: Lowered, converted: GraphModule) -> Audit | None:
    """Return the places of all operators in a lowered program.

    Return None if the backend's format cannot be read back.
    """
    if lowered.operators is None:
        return None
    placements = place(decisions, lowered.operators)
    places = [(d, placements[d.node]) for d in decisions if d.node in placements]
    defects = [decision for decision, found in places if decision.quantized and _is_float(found)]
    splits = splitting(converted, placements)
    return Audit(placements, tuple(defects), tuple(splits), tuple(lowered.conversions))


def reason(decision: Decision, found: Placement | None) -> str:
    """Return why an operator has its place: the decision, and how the program differs from it."""
    if found is None or found.place == ("int8" if decision.quantized else "float"):
        return decision.reason
    if found.place == "gone":
        return f"eliminated: {decision.reason}"
    if decision.quantized:
        return f"runs in float, though decided for int8: {decision.reason}"
    if found.place == "int8":
        return f"runs in int8 ({found.operator}), though decided for float: {decision.reason}"
    return decision.reason


def _is_float(placement: Placement) -> bool:
    return placement.place in ("float", "outside")


def place(
    decisions: Sequence[Decision], operators: Sequence[LoweredOperator]
) -> dict[str, Placement]:
    """Return the place of each decision's operator.

    If an operator was lowered to several parts, the part that is least int8 counts. Operators that
    the program does not mention are ``"gone"``, except those in bodies, which are skipped.
    """
    parts: dict[str, list[LoweredOperator]] = {}
    for operator in operators:
        if operator.origin is not None:
            parts.setdefault(operator.origin, []).append(operator)
    # A program may not list the operators of a body (of a scan); their names contain a dot.
    known = [d.node for d in decisions if d.node in parts or "." not in d.node]
    return {name: _placement(name, parts.get(name, [])) for name in known}


def _placement(node: str, parts: Sequence[LoweredOperator]) -> Placement:
    if not parts:
        return Placement(node, "gone")
    worst = min(parts, key=lambda part: (part.int8, part.delegate is not None))
    in_float: Place = "outside" if worst.delegate is None else "float"
    return Placement(
        node=node,
        place="int8" if worst.int8 else in_float,
        operator=worst.operator,
        delegate=worst.delegate,
        types=_types(worst),
    )


def _types(part: LoweredOperator) -> str:
    reads, gives = ", ".join(part.reads), ", ".join(part.gives)
    return f"{reads} -> {gives}".strip() if gives else ""


def splitting(converted: GraphModule, placements: Mapping[str, Placement]) -> Iterator[Split]:
    """Yield the float parts of a converted graph whose inputs and outputs are quantized."""
    edges = list(_edges(converted))
    is_float = {name for name, found in placements.items() if _is_float(found)}
    for part in _connected(is_float, [(a, b) for a, b, _ in edges]):
        border = [(a, b) for a, b, quantized in edges if quantized]
        producers = {a for a, b in border if b in part and a not in is_float}
        consumers = {b for a, b in border if a in part and b not in is_float}
        if producers and consumers:
            order = [name for name in placements if name in part]
            yield Split(tuple(order), tuple(sorted(producers)), tuple(sorted(consumers)))


def _edges(converted: GraphModule) -> Iterator[tuple[str, str, bool]]:
    """Yield (producer, consumer, whether the tensor is statically quantized), by origin."""
    for node in converted.graph.nodes:
        consumer = origin(node)
        if consumer is None:
            continue
        for source in node.all_input_nodes:
            producer, quantized = _producer(source)
            if producer is not None:
                yield producer, consumer, quantized


def _producer(node: Node) -> tuple[str | None, bool]:
    quantized = False
    while origin(node) is None:
        quantized = quantized or str(node.target) == STATIC_DEQUANTIZE
        if node.op != "call_function" or not node.all_input_nodes:
            return None, quantized
        node = node.all_input_nodes[0]
    return origin(node), quantized


def _connected(names: set[str], edges: Sequence[tuple[str, str]]) -> Iterator[set[str]]:
    neighbours: dict[str, set[str]] = {name: set() for name in names}
    for one, other in edges:
        if one in names and other in names:
            neighbours[one].add(other)
            neighbours[other].add(one)
    left = set(names)
    while left:
        part = set(reachable([next(iter(left))], neighbours.__getitem__))
        left -= part
        yield part
