"""Read how Inductor compiled a program from its final graph, after all fusions.

A fused kernel keeps the metadata of the last operator that it replaces. ``note_steps`` therefore
writes the name of each operator into its metadata ahead of compilation. The operators of a kernel
are those between its last operator and the values that other nodes of the final graph compute.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field

from qreg import Conversion, LoweredOperator
from qreg.backends.exported import conversion_of, dtypes_of
from qreg.graph.provenance import CUSTOM, origin
from qreg.graph.walks import reachable
from qreg_x86_inductor.compat import kernel

if TYPE_CHECKING:
    from torch.fx import Graph, Node

STEP = "qreg_step"
QUANTIZED = ("uint8", "int8")
QUANTIZE = "quantized_decomposed.quantize"
# Inductor moves quantization upstream of these, so that a kernel may end upstream of them.
MOVING = ("view", "reshape", "permute", "transpose", "flatten", "unsqueeze", "squeeze")
WHOLE = 0  # the whole program is compiled into one


def note_steps(graph: Graph) -> None:
    """Write the name of each operator into its metadata, which Inductor's rewrites keep."""
    for node in graph.nodes:
        if node.op == "call_function":
            node.meta[CUSTOM] = {**(node.meta.get(CUSTOM) or {}), STEP: node.name}


@define
class Reading:
    """Collect the operators and conversions of a program; call it with each final graph.

    ``source`` is the graph of the program after ``note_steps``.
    """

    source: Graph
    operators: list[LoweredOperator] = field(factory=list, init=False)
    conversions: list[Conversion] = field(factory=list, init=False)
    graphs: int = field(default=0, init=False)

    def __call__(self, graph: Graph) -> None:
        self.graphs += 1
        nodes = [node for node in graph.nodes if _computes(node)]
        absorbed = _Absorbed(self.source, {_step(node) for node in nodes} - {None})
        origins = {node: absorbed.origins(node) for node in nodes}
        for node in nodes:
            if (kind := conversion_of(node)) is not None:
                near = (
                    [name for each in side for name in origins.get(each, ())]
                    for side in (node.all_input_nodes, node.users)
                )
                self.conversions.append(Conversion(kind, WHOLE, *near))
            else:
                self.operators += _operators(node, origins[node])


def _computes(node: Node) -> bool:
    return node.op == "call_function" and node.target is not operator.getitem


def _step(node: Node) -> str | None:
    found: str | None = (node.meta.get(CUSTOM) or {}).get(STEP)
    return found


class _Absorbed:
    """Map nodes of the final graph to the operators of the program that they replace."""

    def __init__(self, source: Graph, steps: set[Any]) -> None:
        self._nodes = {node.name: node for node in source.nodes}
        self._steps = steps

    def origins(self, node: Node) -> tuple[str, ...]:
        last = self._nodes.get(_step(node) or "")
        if kernel(node) is None or last is None:
            own = origin(node)
            return (own,) if own else ()
        return tuple(dict.fromkeys(name for each in self._fused(last) if (name := origin(each))))

    def _fused(self, last: Node) -> Iterator[Node]:
        """Yield the operators from ``last`` upstream to those that other nodes compute."""
        for each in reachable([last], lambda node: filter(self._is_inside, node.all_input_nodes)):
            if each is last or each.name not in self._steps:
                yield each

    def _is_inside(self, node: Node) -> bool:
        name = str(node.target)
        if node.op != "call_function" or name.startswith(QUANTIZE):
            return False
        return node.name not in self._steps or name.split(".")[1] in MOVING


def _operators(node: Node, origins: Sequence[str]) -> Iterator[LoweredOperator]:
    name, reads, gives = kernel(node), _read(node), dtypes_of(node)
    int8 = name is not None or _moves_codes(reads, gives)
    for each in origins or (None,):
        yield LoweredOperator(each, name or str(node.target), int8, WHOLE, reads, gives)


def _moves_codes(reads: Sequence[str], gives: Sequence[str]) -> bool:
    """Whether a node only moves quantized values, such as a reshape of uint8."""
    return bool(gives) and all(each in QUANTIZED for each in (*reads, *gives))


def _read(node: Node) -> list[str]:
    """Return the dtypes of a node's inputs; for a kernel, without the scales of its weight."""
    is_kernel = kernel(node) is not None
    given = [each for each in node.all_input_nodes if not (is_kernel and _is_scale(each))]
    return [dtype for each in given for dtype in dtypes_of(each)]


def _is_scale(node: Node) -> bool:
    return node.op == "get_attr" and str(node.target).startswith(("_scale", "_zero_point"))
