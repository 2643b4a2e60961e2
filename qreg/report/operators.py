"""The rows of a report: what happened to each operator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import getitem
from typing import TYPE_CHECKING, Any

from attrs import evolve
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.analysis.audit import reason
from qreg.analysis.macs import Count, counts, float_macs
from qreg.analysis.numerics import OperatorNoise
from qreg.analysis.precisions import precisions
from qreg.analysis.sizes import constant_bytes
from qreg.graph.provenance import origin
from qreg.report.values import Operator

if TYPE_CHECKING:
    from qreg.analysis.audit import Placement
    from qreg.analysis.sensitivity import PatternNoise
    from qreg.plugins.types.decision import Decision


FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')
TORCHS_OWN = "/torch/nn/"  # the modules of torch, which models are built from


def operators(
    reference: GraphModule,
    decisions: Sequence[Decision],
    placements: Mapping[str, Placement] | None = None,
    noise: Sequence[OperatorNoise] = (),
    isolated: Sequence[PatternNoise] = (),
    converted: GraphModule | None = None,
) -> tuple[Operator, ...]:
    """Return a row for each operator with a decision.

    ``reference`` is the annotated graph without observers. ``noise`` is that of single operators,
    ``isolated`` that of the outputs for each pattern. ``converted`` is the graph that was lowered.
    """
    nodes: dict[str, list[Node]] = {}
    for node in _nodes(reference):
        if name := origin(node):
            nodes.setdefault(name, []).append(node)
    order = {decision.node: position for position, decision in enumerate(decisions)}
    counted = counts(reference)
    read = constant_bytes(reference)
    stored = None if converted is None else constant_bytes(converted)
    measured = {each.node: each for each in noise}
    named = precisions(reference.graph, [d.pattern or (d.node,) for d in decisions if d.quantized])
    alone = {name: each.sqnr for each in isolated for name in each.pattern}
    rows = (
        _operator(
            decision,
            nodes.get(decision.node, []),
            _inputs(nodes.get(decision.node, []), order),
            (placements or {}).get(decision.node),
            measured.get(decision.node),
            counted.get(decision.node, Count()),
            alone.get(decision.node),
        )
        for decision in decisions
    )
    return tuple(
        evolve(
            row,
            float_bytes=read.get(row.name, 0),
            precision=named.get(row.name, "int8") if row.quantized else None,
            constant_bytes=None if stored is None else stored.get(row.name, 0),
        )
        for row in rows
    )


def _nodes(model: GraphModule) -> Iterator[Node]:
    """Yield the nodes of a graph and of the bodies in it."""
    graphs = [each for each in model.modules() if isinstance(each, GraphModule)]
    return (node for each in graphs for node in each.graph.nodes)


def _operator(
    decision: Decision,
    nodes: Sequence[Node],
    inputs: tuple[str, ...],
    placement: Placement | None,
    noise: OperatorNoise | None,
    counted: Count,
    isolated: float | None,
) -> Operator:
    node = nodes[-1] if nodes else None
    value = node.meta.get("val") if node else None
    tensor = value if isinstance(value, Tensor) else None
    return Operator(
        name=decision.node,
        operator=decision.operator,
        module=decision.module,
        status=decision.status,
        reason=reason(decision, placement),
        annotator=decision.annotator,
        distribution=decision.distribution,
        config=decision.config,
        pattern=decision.pattern,
        inputs=inputs,
        shape=None if tensor is None else tuple(_size(size) for size in tensor.shape),
        dtype=None if tensor is None else str(tensor.dtype).removeprefix("torch."),
        source=source_line(node) if node else None,
        macs=counted.macs,
        float_macs=sum(map(float_macs, nodes)) if decision.quantized else 0,
        uncounted="; ".join(counted.unknown) or None,
        place=placement.place if placement else None,
        lowered_as=(placement.operator or None) if placement else None,
        types=(placement.types or None) if placement else None,
        delegate=placement.delegate if placement else None,
        sqnr=noise.sqnr if noise else None,
        largest_difference=noise.largest if noise else None,
        isolated_sqnr=isolated,
        ordinal=decision.ordinal,
    )


def _size(size: Any) -> int | None:
    return size if isinstance(size, int) else None


def _inputs(nodes: Sequence[Node], order: Mapping[str, int]) -> tuple[str, ...]:
    """Return the operators and inputs that the nodes of a row read, if they are above the row.

    The products of a recurrent layer also read the state, which is a part of a row below them.
    """
    found: dict[str, None] = {}
    for source in (source for node in nodes for source in node.all_input_nodes):
        while source.target is getitem:  # picks one of several
            source = source.all_input_nodes[0]
        if origin(source) or source.op == "placeholder":
            found[origin(source) or source.name] = None
    row = order.get(str(origin(nodes[0])), 0) if nodes else 0
    return tuple(name for name in found if order.get(name, -1) < row)


def source_line(node: Node) -> str | None:
    """Return the line of the model's source that an operator comes from: file, line and code.

    This is the innermost frame outside of ``torch.nn``, or else the innermost frame.
    """
    frames = list(FRAME.finditer(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if TORCHS_OWN not in frame["file"]]
    if not frames:
        return None
    frame = (own or frames)[-1]
    return f"{frame['file']}:{frame['line']}: {frame['code'].strip()}"
