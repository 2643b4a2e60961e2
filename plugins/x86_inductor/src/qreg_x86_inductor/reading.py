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
from qreg.graph.provenance import CUSTOM, origin
from qreg.graph.walks import reachable
from qreg_x86_inductor.compat import kernel

if TYPE_CHECKING:
    from torch.fx import Graph, Node

STEP = "qreg_step"
QUANTIZED = ("uint8", "int8")
QUANTIZE, DEQUANTIZE = "quantized_decomposed.quantize", "quantized_decomposed.dequantize"
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
            if _is_conversion(node):
                self.conversions.append(_conversion(node, origins))
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


def _is_conversion(node: Node) -> bool:
    return str(node.target).startswith((QUANTIZE, DEQUANTIZE))


def _conversion(node: Node, origins: dict[Node, tuple[str, ...]]) -> Conversion:
    quantizes = str(node.target).startswith(QUANTIZE)
    producers = [name for each in node.all_input_nodes for name in origins.get(each, ())]
    consumers = [name for each in node.users for name in origins.get(each, ())]
    return Conversion("quantize" if quantizes else "dequantize", WHOLE, producers, consumers)


def _operators(node: Node, origins: Sequence[str]) -> Iterator[LoweredOperator]:
    name, reads, gives = kernel(node), _read(node), _types([node])
    int8 = name is not None or _moves_codes(reads, gives)
    for each in origins or (None,):
        yield LoweredOperator(each, name or str(node.target), int8, WHOLE, reads, gives)


def _moves_codes(reads: Sequence[str], gives: Sequence[str]) -> bool:
    """Whether a node only moves quantized values, such as a reshape of uint8."""
    return bool(gives) and all(each in QUANTIZED for each in (*reads, *gives))


def _read(node: Node) -> tuple[str, ...]:
    """Return the dtypes of a node's inputs; for a kernel, without the scales of its weight."""
    given = node.all_input_nodes
    return _types(given if kernel(node) is None else [n for n in given if not _is_scale(n)])


def _is_scale(node: Node) -> bool:
    return node.op == "get_attr" and str(node.target).startswith(("_scale", "_zero_point"))


def _types(nodes: Sequence[Node]) -> tuple[str, ...]:
    import torch

    values = [node.meta.get("val") for node in nodes]
    dtypes = [value.dtype for value in values if isinstance(value, torch.Tensor)]
    return tuple(str(dtype).removeprefix("torch.") for dtype in dtypes)
