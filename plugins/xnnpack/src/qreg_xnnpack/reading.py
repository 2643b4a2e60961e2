"""Reads back what a program does: the operators and datatypes that XNNPACK itself will run.

A delegate's payload in the ``.pte`` is the graph that the XNNPACK runtime builds. Each of its nodes
carries the debug handle of the operator that it was made from, and that operator its origin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import getitem
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from qreg import Conversion, LoweredOperator
from qreg.graph.provenance import origin
from qreg.graph.walks import reachable
from qreg_xnnpack.compat import delegates_of, graph_of, program_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

INT8 = frozenset({"qint8", "quint8", "qdint8", "qpint8"})
CONVERT = "XNNConvert"
CONVERSIONS: dict[str, Literal["quantize", "dequantize"]] = {
    "quantized_decomposed.quantize_per_": "quantize",
    "quantized_decomposed.dequantize_per_": "dequantize",
}
CAST = "_to_dim_order_copy"


@frozen
class XNNNode:
    """One node of a delegate's graph, by the numbers of the values that it reads and gives."""

    kind: str
    origin: str | None
    reads: tuple[int, ...]
    gives: tuple[int, ...]


@frozen
class DelegateGraph:
    """What one delegate runs; ``datatypes`` are those of its values, without ``xnn_datatype_``."""

    number: int
    nodes: tuple[XNNNode, ...]
    datatypes: Mapping[int, str]
    absorbed: Mapping[str, str]  # origin -> origin of the operator whose node does its work

    def operators(self) -> Iterator[LoweredOperator]:
        """The operators, and those that were fused into another or that nothing is left of."""
        found = [self._operator(node) for node in self.nodes if node.kind != CONVERT]
        yield from found
        by_origin = {each.origin: each for each in found}
        for name, into in self.absorbed.items():
            host = by_origin[into]
            yield LoweredOperator(name, f"within {host.operator}", host.int8, self.number)

    def _operator(self, node: XNNNode) -> LoweredOperator:
        reads, gives = self._types(node.reads), self._types(node.gives)
        dynamic = reads[:1] == ["qdint8"] or reads[:1] == ["qpint8"]
        int8 = INT8.issuperset(reads[:1]) and (dynamic or INT8.issuperset(gives))
        return LoweredOperator(node.origin, node.kind, int8, self.number, reads, gives)

    def _types(self, values: Iterable[int]) -> list[str]:
        return [self.datatypes[value] for value in values]

    def conversions(self) -> Iterator[Conversion]:
        """The changes between float and int8 that the delegate carries out."""
        for node in self.nodes:
            if node.kind == CONVERT:
                yield Conversion(
                    kind=_kind(*self._types((*node.reads, *node.gives))),
                    delegate=self.number,
                    producers=self._givers(node),
                    consumers=self._readers(node),
                )

    def _givers(self, node: XNNNode) -> Iterator[str]:
        """The origins of what gives a node its values, behind what the delegate itself added."""
        for other in self.nodes:
            if set(other.gives) & set(node.reads):
                yield from [other.origin] if other.origin else self._givers(other)

    def _readers(self, node: XNNNode) -> Iterator[str]:
        for other in self.nodes:
            if set(other.reads) & set(node.gives):
                yield from [other.origin] if other.origin else self._readers(other)


def _kind(before: str, behind: str) -> Literal["quantize", "dequantize", "requantize"]:
    if behind == "fp32":
        return "dequantize"
    return "quantize" if before == "fp32" else "requantize"


def delegate_graphs(program: bytes, edge: ExportedProgram) -> list[DelegateGraph]:
    """The graphs of a program's delegates, in the order of their calls.

    ``edge`` is what the program was made of: it knows the origins of the operators.
    """
    description = program_of(program)
    delegates = description.execution_plan[0].delegates
    payloads = [bytes(each.data) for each in description.backend_delegate_data]
    sources = [each.original_module for each in delegates_of(edge)]
    return [
        _delegate_graph(number, graph_of(payloads[delegate.processed.index]), source.graph)
        for number, (delegate, source) in enumerate(zip(delegates, sources, strict=True))
    ]


def _delegate_graph(number: int, raw: dict[str, Any], source: Graph) -> DelegateGraph:
    datatypes = dict(_datatype(value["xvalue_union"]) for value in raw["xvalues"])
    operators = [node for node in source.nodes if node.op == "call_function"]
    names = {node.meta.get("debug_handle"): origin(node) for node in operators}
    nodes = [_node(each, names.get(each["debug_handle"]), datatypes) for each in raw["xnodes"]]
    present = {node.origin for node in nodes if node.origin and node.kind != CONVERT}
    return DelegateGraph(number, tuple(nodes), datatypes, _absorbed(operators, present))


def _datatype(value: dict[str, Any]) -> tuple[int, str]:
    tensor = value.get("tensor_value", value)
    return tensor["id_out"], tensor["datatype"].removeprefix("xnn_datatype_")


def _node(raw: dict[str, Any], name: str | None, datatypes: Mapping[int, str]) -> XNNNode:
    ids = [(key, value) for key, value in raw["xnode_union"].items() if key.endswith("_id")]
    known = [(key, value) for key, value in ids if value in datatypes]  # a bias may be missing
    gives = [value for key, value in known if key.startswith("output")]
    reads = [value for key, value in known if not key.startswith("output")]
    return XNNNode(raw["xnode_union_type"], name, tuple(reads), tuple(gives))


def _absorbed(operators: Iterable[Node], present: set[str]) -> dict[str, str]:
    """Operators without a separate node, each with the upstream or downstream one that has one."""
    missing = [node for node in operators if origin(node) and origin(node) not in present]
    hosts = {str(origin(node)): _host(node, present) for node in missing}
    return {name: host for name, host in hosts.items() if host is not None}


def _host(node: Node, present: set[str]) -> str | None:
    """The operator that computes on the same values: all int8, or all float.

    A change between the two is crossed only from an operator that stands between two of them, whose
    quantized input is its output.
    """
    carries = bool(node.users) and all(map(_kind_of, (*node.all_input_nodes, *node.users)))

    def near(nodes: Iterable[Node]) -> Iterator[Node]:
        return (each for each in nodes if carries or not _kind_of(each))

    upstream = reachable([node], lambda each: near(each.all_input_nodes))
    downstream = reachable([node], lambda each: near(each.users))
    found = map(origin, chain(upstream, downstream))
    return next((name for name in found if name in present), None)


def outside_operators(
    edge: ExportedProgram, delegated: Collection[str | None] = ()
) -> Iterator[LoweredOperator]:
    """What was left to the runtime's own kernels, which compute in float.

    Of the origins that are ``delegated``, casts and what is made of constants alone are skipped:
    the operator itself is in the delegate.
    """
    varying = _varying(edge)
    for node in edge.graph.nodes:
        if node.op != "call_function" or node.target is getitem or not origin(node):
            continue
        name = node.target.__name__
        if origin(node) in delegated and (node not in varying or name.startswith(CAST)):
            continue
        reads = chain.from_iterable(map(_dtypes, _read(node)))
        yield LoweredOperator(origin(node), name, False, None, reads, _dtypes(node))


def _varying(edge: ExportedProgram) -> set[Node]:
    """The nodes whose values are not the same at each call."""
    signature = edge.graph_signature
    written = {
        name
        for name, buffer in signature.inputs_to_buffers.items()
        if buffer in signature.buffers_to_mutate.values()
    }
    found: set[Node] = set()
    for node in edge.graph.nodes:
        given = node.op == "placeholder" and node.name in {*signature.user_inputs, *written}
        if given or found.intersection(node.all_input_nodes):
            found.add(node)
    return found


def _read(node: Node) -> list[Node]:
    """The inputs of a node, without the memory that its output is written to."""
    outputs = {each for name, each in node.kwargs.items() if name.startswith("out")}
    return [each for each in node.all_input_nodes if each not in outputs]


def _dtypes(node: Node) -> list[str]:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    dtypes = [getattr(each, "dtype", None) for each in values]
    return [str(dtype).removeprefix("torch.") for dtype in dtypes if dtype is not None]


def outside_conversions(edge: ExportedProgram) -> Iterator[Conversion]:
    """The conversions that were left to the runtime's own kernels."""
    for node in edge.graph.nodes:
        kind = _kind_of(node)
        if kind is not None:
            behind = filter(None, map(origin, node.all_input_nodes))
            before = filter(None, map(origin, node.users))
            yield Conversion(kind, None, behind, before)


def _kind_of(node: Node) -> Literal["quantize", "dequantize"] | None:
    """Which conversion a node is, if it is one."""
    name = getattr(node.target, "__name__", "")
    return next((kind for start, kind in CONVERSIONS.items() if name.startswith(start)), None)
