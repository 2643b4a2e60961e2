"""Read the operators and datatypes that XNNPACK runs from a lowered program.

A delegate's payload in the ``.pte`` is the graph that the XNNPACK runtime builds. Each of its nodes
has the debug handle of the operator it was lowered from; that operator has its origin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from operator import getitem
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qreg import LoweredOperator
from qreg.backends.exported import conversion_of, name_of
from qreg.backends.program_graph import Kernel, Kind, ProgramGraph, within
from qreg.graph.provenance import origin
from qreg.graph.walks import reachable
from qreg_xnnpack.compat import delegates_of, graph_of, program_of
from qreg_xnnpack.quantized_io import check_quantized_io

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

INT8 = frozenset({"qint8", "quint8", "qdint8", "qpint8"})
DYNAMIC = (["qdint8"], ["qpint8"])  # whose output is float
CONVERT = "XNNConvert"
CAST = "_to_dim_order_copy"


@frozen
class DelegateGraph:
    """The kernels of one delegate; dtypes are named without the prefix ``xnn_datatype_``."""

    graph: ProgramGraph
    absorbed: Mapping[str, str]  # origin -> origin of the operator whose node does its work

    def operators(self) -> Iterator[LoweredOperator]:
        """Yield the operators, fused and eliminated ones included."""
        found = list(self.graph.operators())
        yield from found
        hosts = {each.origin: each for each in found}
        yield from (within(hosts[into], name) for name, into in self.absorbed.items())


def delegate_graphs(program: bytes, edge: ExportedProgram, method: str) -> list[DelegateGraph]:
    """Return the graphs of the delegates of a program's method in call order.

    ``edge`` is the method ahead of serialization, which has the origins of the operators.
    """
    description = program_of(program)
    (plan,) = (each for each in description.execution_plan if each.name == method)
    delegates = plan.delegates
    payloads = [bytes(each.data) for each in description.backend_delegate_data]
    sources = [each.original_module for each in delegates_of(edge)]
    graphs = [graph_of(payloads[delegate.processed.index]) for delegate in delegates]
    check_quantized_io(plan, graphs)
    return [
        _delegate_graph(number, graph, source.graph)
        for number, (graph, source) in enumerate(zip(graphs, sources, strict=True))
    ]


def _delegate_graph(number: int, raw: dict[str, Any], source: Graph) -> DelegateGraph:
    datatypes = dict(_datatype(value["xvalue_union"]) for value in raw["xvalues"])
    operators = [node for node in source.nodes if node.op == "call_function"]
    names = {node.meta.get("debug_handle"): origin(node) for node in operators}
    nodes = [_node(each, names.get(each["debug_handle"]), datatypes) for each in raw["xnodes"]]
    present = {name for node in nodes if not node.conversions for name in node.origins}
    return DelegateGraph(ProgramGraph(nodes, datatypes, number), _absorbed(operators, present))


def _datatype(value: dict[str, Any]) -> tuple[int, str]:
    tensor = value.get("tensor_value", value)
    return tensor["id_out"], tensor["datatype"].removeprefix("xnn_datatype_")


def _node(raw: dict[str, Any], name: str | None, datatypes: Mapping[int, str]) -> Kernel:
    kind, ids = raw["xnode_union_type"], raw["xnode_union"].items()
    # a bias may be missing
    known = [(key, id_) for key, id_ in ids if key.endswith("_id") and id_ in datatypes]
    gives = tuple(id_ for key, id_ in known if key.startswith("output"))
    reads = tuple(id_ for key, id_ in known if not key.startswith("output"))
    read, given = ([datatypes[each] for each in ids] for ids in (reads, gives))
    int8 = INT8.issuperset(read[:1]) and (read[:1] in DYNAMIC or INT8.issuperset(given))
    conversions = (_kind(*read, *given),) if kind == CONVERT else ()
    return Kernel(kind, (name,) if name else (), reads, gives, int8, conversions)


def _kind(read: str, given: str) -> Kind:
    if given == "fp32":
        return "dequantize"
    return "quantize" if read == "fp32" else "requantize"


def _absorbed(operators: Iterable[Node], present: set[str]) -> dict[str, str]:
    """Map operators without a separate node to the neighbour whose node computes them."""
    missing = [node for node in operators if origin(node) and origin(node) not in present]
    hosts = {str(origin(node)): _host(node, present) for node in missing}
    return {name: host for name, host in hosts.items() if host is not None}


def _host(node: Node, present: set[str]) -> str | None:
    """Return the operator that computes on the same values: all int8, or all float.

    A conversion between int8 and float is crossed only from an operator between two conversions,
    whose output is its quantized input.
    """
    carries = bool(node.users) and all(map(conversion_of, (*node.all_input_nodes, *node.users)))

    def near(nodes: Iterable[Node]) -> Iterator[Node]:
        return (each for each in nodes if carries or not conversion_of(each))

    upstream = reachable([node], lambda each: near(each.all_input_nodes))
    downstream = reachable([node], lambda each: near(each.users))
    found = map(origin, chain(upstream, downstream))
    return next((name for name in found if name in present), None)


def outside_nodes(edge: ExportedProgram, delegated: Collection[str | None] = ()) -> list[Node]:
    """Return the nodes that are not delegated; the runtime's kernels compute them in float.

    For origins in ``delegated``, casts and nodes that depend only on constants are skipped: the
    operator itself is in the delegate.
    """
    varying = _varying(edge)

    def is_of_a_delegate(node: Node) -> bool:
        passive = node not in varying or name_of(node).startswith(CAST)
        return origin(node) in delegated and passive

    calls = [node for node in edge.graph.nodes if node.op == "call_function"]
    return [node for node in calls if node.target is not getitem and not is_of_a_delegate(node)]


def _varying(edge: ExportedProgram) -> set[Node]:
    """Return the nodes whose values may differ between calls."""
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
