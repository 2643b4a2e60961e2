"""Bisect a model for the first operator that a backend computes wrongly.

An error at one operator stays visible downstream, so bisection finds the first one with a handful
of lowerings. The search runs only after a program has failed. A part ends only where it splits no
pattern, since a backend lowers half of a pattern as a different one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from qreg.analysis.interpreter import first_nan
from qreg.errors import (
    LoweringError,
    NaNError,
    ProgramError,
    QregError,
    UnsupportedOperatorError,
    keeping_in_float,
)
from qreg.graph.provenance import module_path, origin
from qreg.inputs.specs import flat
from qreg.programs.export import export
from qreg.verification.metrics import compare_all, is_far
from qreg.verification.remedies import calls_of, scopes_of
from qreg.verification.runner import check_alike, outputs_of, repeats_for, run_program

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from qreg.plugins.types.backend import Runner
    from qreg.plugins.types.decision import Decision
    from qreg.plugins.types.program import Lowered


QUANTIZE = "quantized_decomposed.quantize_per_"
DEQUANTIZE = "quantized_decomposed.dequantize_per_"


FAILS_IN_FLOAT = (
    "The float model fails in this backend too, so no scope helps. Change the model at or just "
    "upstream of it."
)


@frozen
class Search:
    """How a part of a model is lowered, run and judged; ``load`` None runs nothing."""

    lower: Callable[[ExportedProgram], Lowered]
    load: Callable[[bytes], Runner] | None
    floor: float

    def works(self, part: GraphModule, samples: Sequence[tuple[Any, ...]]) -> bool:
        """Whether a part lowers, and runs as it should in the backend."""
        try:
            lowered = self.lower(export(part, samples[0]))
            if self.load is None:
                return True
            got = run_program(self.load, lowered, samples, repeats_for(part))
            wanted = outputs_of(part, samples)
            check_alike(got, wanted)
        except QregError:
            return False
        return not any(is_far(each, self.floor) for each in compare_all(got, wanted))


def name_suspect(
    error: ProgramError,
    converted: GraphModule,
    decisions: Sequence[Decision],
    samples: Sequence[tuple[Any, ...]],
    search: Search,
    reference: GraphModule | None = None,
) -> ProgramError:
    """Return the error, with the operator at which it starts if one is found.

    ``reference`` is the float graph: if it fails too, no scope helps, and none is offered.
    Skip the search if the backend has named operators itself.
    """
    if isinstance(error, UnsupportedOperatorError):
        return error
    if isinstance(error, LoweringError) and _remedy(error.suspects, decisions):
        return _kept_in_float(error, error.suspects, decisions)
    for sample in samples if isinstance(error, NaNError) else ():
        name = first_nan(converted, sample)
        if name is not None:
            described = f"{name}, the first to return NaN in the converted model"
            return _kept_in_float(error, [name], decisions, described)
    found = suspect(converted, decisions, samples, search)
    if not found:
        return error
    names = list(dict.fromkeys(str(origin(node)) for node in found))
    # An operator that is in float already may be the cause: then no setting would help.
    floats = {each.node for each in decisions if not each.quantized}
    if reference is not None and not search.works(reference, samples):
        return error.suspecting(_described(found), remedy=FAILS_IN_FLOAT)
    helped = names if floats.isdisjoint(names) else []
    return _kept_in_float(error, helped, decisions, _described(found))


def _kept_in_float(
    error: ProgramError, names: Sequence[str], decisions: Sequence[Decision], *suspects: str
) -> ProgramError:
    """Return the error with the remedy to keep the patterns of some operators in float."""
    named = error.suspecting(*suspects, remedy=_remedy(names, decisions))
    named.calls = calls_of(names, decisions)
    return named


def _remedy(names: Sequence[str], decisions: Sequence[Decision]) -> str:
    return keeping_in_float(scopes_of(names, decisions))


def _described(nodes: Sequence[Node]) -> str:
    named = " and ".join(f"{origin(node)} ({node.target}{_place(node)})" for node in nodes)
    return f"{named}, the first that the backend computes incorrectly"


def _place(node: Node) -> str:
    path = module_path(node)
    return f" in module {path!r}" if path else ""


def suspect(
    converted: GraphModule,
    decisions: Sequence[Decision],
    samples: Sequence[tuple[Any, ...]],
    search: Search,
) -> list[Node]:
    """Return the operators of the first pattern at which a lowered model fails.

    A part fails if it does not lower, load or run, or if its outputs differ from the model's. The
    list is empty if every part works and only the whole model fails.
    """
    inputs = [tuple(flat(sample)) for sample in samples]
    ends = _ends(converted, decisions)
    right, wrong = -1, len(ends)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        works = search.works(up_to(converted, ends[middle]), inputs)
        right, wrong = (middle, wrong) if works else (right, middle)
    if wrong == len(ends):
        return []
    position = {node: number for number, node in enumerate(converted.graph.nodes)}
    start = position[ends[right]] if right >= 0 else -1
    between = (n for n, at in position.items() if start < at <= position[ends[wrong]])
    return [node for node in between if origin(node)]


def _ends(converted: GraphModule, decisions: Sequence[Decision]) -> list[Node]:
    """Return the nodes after which the graph can be cut without splitting a pattern."""
    position = {node: number for number, node in enumerate(converted.graph.nodes)}
    nodes: dict[str, list[Node]] = {}
    for node in position:
        if name := origin(node):
            nodes.setdefault(name, []).append(node)
    spans = []
    for decision in decisions:
        names = dict.fromkeys((*decision.pattern, decision.node))
        parts = [node for name in names for node in nodes.get(name, [])]
        if parts:
            first, last = min(parts, key=position.__getitem__), max(parts, key=position.__getitem__)
            spans.append((position[first], _behind(last)))
    ends = dict.fromkeys(end for _, end in sorted(spans, key=lambda span: position[span[1]]))
    return [
        end
        for end in ends
        if not any(start <= position[end] < position[other] for start, other in spans)
        and _given(converted, end)
    ]


def _behind(node: Node) -> Node:
    """Return the node that dequantizes the output of an operator, or else the operator."""
    for follower in (QUANTIZE, DEQUANTIZE):
        following = [user for user in node.users if str(user.target).startswith(follower)]
        node = following[0] if following else node
    return node


def _given(converted: GraphModule, end: Node) -> list[Node]:
    """Return the floating-point tensors of the part up to ``end`` that are read after it."""
    inside, computed = set[Node](), set[Node]()
    for node in converted.graph.nodes:
        inside.add(node)
        if node.op == "placeholder" or any(each in computed for each in node.all_input_nodes):
            computed.add(node)
        if node is end:
            break
    return [
        node
        for node in converted.graph.nodes
        if node in computed
        and node.op != "placeholder"
        and _is_float(node)
        and (node is end or any(user not in inside for user in node.users))
    ]


def _is_float(node: Node) -> bool:
    if str(node.target).startswith(DEQUANTIZE):
        return True  # convert sets no meta value on it
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def up_to(converted: GraphModule, end: Node) -> GraphModule:
    """Return the part of a model that ends with a node; its inputs are flat."""
    graph = Graph()
    copies = dict(_copied(graph, converted.graph, end))
    graph.output(tuple(copies[node] for node in _given(converted, end)))
    graph.eliminate_dead_code()
    return GraphModule(converted, graph)


def _copied(into: Graph, graph: Graph, end: Node) -> Iterator[tuple[Node, Node]]:
    copies: dict[Node, Node] = {}
    for node in graph.nodes:
        if end not in copies or node.op == "placeholder":
            copies[node] = into.node_copy(node, copies.__getitem__)
            yield node, copies[node]
