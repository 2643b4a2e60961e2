"""Finds the operator at which a backend goes wrong, by lowering the model up to a point.

The error of an operator stays in what follows it, so a search by halves finds the first one: a
handful of lowerings, made only where a program has failed already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from qreg.errors import LoweringError, ProgramError, VerificationError
from qreg.exporting import export
from qreg.inputs import flat
from qreg.origins import origin
from qreg.scopes import module_path
from qreg.verification import compare_all, is_far, outputs_of, run_program
from qreg.watching import first_nan

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from qreg.model import Lowered, Runner


def suspect(
    converted: GraphModule,
    samples: Sequence[tuple[Any, ...]],
    *,
    lower: Callable[[ExportedProgram], Lowered],
    load: Callable[[bytes], Runner] | None,
    floor: float,
) -> Node | None:
    """The first operator of a converted model up to which the lowered program is wrong.

    Wrong is a program that does not lower, load or run, or whose output is closer to noise than
    ``floor`` in dB. None if the program is wrong only as a whole.
    """
    inputs = [tuple(flat(sample)) for sample in samples]

    def works(node: Node) -> bool:
        part = up_to(converted, node)
        try:
            lowered = lower(export(part, inputs[0]))
            got = run_program(load, lowered, inputs) if load else outputs_of(part, inputs)
        except (LoweringError, VerificationError):
            return False
        found = compare_all(got, outputs_of(part, inputs))
        return not any(is_far(each, floor) for each in found)

    nodes = [node for node in converted.graph.nodes if _is_comparable(node)]
    right, wrong = -1, len(nodes)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        right, wrong = (middle, wrong) if works(nodes[middle]) else (right, middle)
    return nodes[wrong] if wrong < len(nodes) else None


def name_suspect(
    error: ProgramError,
    converted: GraphModule,
    samples: Sequence[tuple[Any, ...]],
    *,
    lower: Callable[[ExportedProgram], Lowered],
    load: Callable[[bytes], Runner] | None,
    floor: float,
) -> ProgramError:
    """The error with the operator that it starts at, as far as one can be found."""
    for sample in samples:
        name = first_nan(converted, sample)
        if name is not None:
            return error.suspecting(f"{name}, the first to give NaN in the converted model")
    found = suspect(converted, samples, lower=lower, load=load, floor=floor)
    return error if found is None else error.suspecting(_described(found))


def _described(node: Node) -> str:
    path = module_path(node)
    place = f" in module {path!r}" if path else ""
    return f"{origin(node)} ({node.target}{place}), the first that the backend gets wrong"


def _is_comparable(node: Node) -> bool:
    value = node.meta.get("val")
    return bool(origin(node) and isinstance(value, Tensor) and value.is_floating_point())


def up_to(converted: GraphModule, last: Node) -> GraphModule:
    """The model that ends with one of its operators, and takes its inputs flat."""
    graph: Graph = Graph()
    copies: dict[Node, Node] = {}
    for node in converted.graph.nodes:
        if last not in copies or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[last])
    graph.eliminate_dead_code()
    return GraphModule(converted, graph)
