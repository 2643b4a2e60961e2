"""Name the types that a quantized operator computes on, from its annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.fx import Graph, Node
from torchao.quantization.pt2e.quantizer import DerivedQuantizationSpec, SharedQuantizationSpec

from qreg.graph.compat import annotation_of
from qreg.graph.nodes import constants_of

STORED = 8  # weights of 5 to 7 bits are stored, and run, as those of 8
PACKED = 4  # and those of up to 4 bits have kernels of their own


def precisions(graph: Graph, patterns: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return the precision of each annotated node, by the patterns of names that it is in.

    ``"int8"`` and ``"int16"`` are those of activations, and of weights of 8 bits with ``"int8"``.
    ``"a16w8"`` has activations of 16 and weights of 8 bits; ``"w4"`` has weights alone.
    """
    constants = constants_of(graph)
    nodes = {node.name: node for node in graph.nodes}
    found: dict[str, str] = {}
    for pattern in patterns:
        inside = [nodes[name] for name in pattern if name in nodes]
        bits = [each for node in inside for each in _bits(node, constants)]
        activations = {number for number, constant in bits if not constant}
        weights = {number for number, constant in bits if constant}
        if name := _named(max(activations, default=0), min(weights, default=0)):
            found.update(dict.fromkeys(pattern, name))
    return found


def _named(activations: int, weights: int) -> str:
    if activations in (0, weights) or not weights:
        alone = weights and not activations
        return f"w{weights}" if alone else f"int{activations}" if activations else ""
    return f"a{activations}w{weights}"


def _bits(node: Node, constants: set[Node]) -> Iterator[tuple[int, bool]]:
    """Yield the bits of a node's inputs and output, and whether each is a constant."""
    annotation = annotation_of(node)
    if annotation is None:
        return
    specs = [(spec, each in constants) for each, spec in annotation.input_qspec_map.items()]
    for spec, constant in (*specs, (annotation.output_qspec, False)):
        number = _width(_resolved(spec))
        if number:
            yield number, constant


def _resolved(spec: Any) -> Any:
    """Return the spec that a shared one leads to; None if it leads back to itself."""
    seen: set[Any] = set()
    while isinstance(spec, SharedQuantizationSpec) and spec.edge_or_node not in seen:
        shared = spec.edge_or_node
        seen.add(shared)
        owner = annotation_of(shared if isinstance(shared, Node) else shared[1])
        if owner is None:
            return None
        edge = not isinstance(shared, Node)
        spec = owner.input_qspec_map.get(shared[0]) if edge else owner.output_qspec
    return spec


def _width(spec: Any) -> int:
    """Return the bits of the kernels for a spec; 0 for those of a bias, and for float."""
    low, high = getattr(spec, "quant_min", None), getattr(spec, "quant_max", None)
    if low is None or high is None or isinstance(spec, DerivedQuantizationSpec):
        return 0
    bits = (high - low).bit_length()
    return 0 if bits > 16 else bits if bits <= PACKED else max(bits, STORED)
