"""Read the parts of an exported program that a lowering does not change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from qreg.graph.provenance import origin
from qreg.plugins.types.program import Conversion, LoweredOperator

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

CONVERSIONS: dict[str, Literal["quantize", "dequantize"]] = {
    "quantize_per_": "quantize",
    "dequantize_per_": "dequantize",
}


def changed_inputs(program: ExportedProgram) -> int:
    """Return the number of inputs that a program changes in place."""
    from torch.export.graph_signature import OutputKind

    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    return kinds.count(OutputKind.USER_INPUT_MUTATION)


def name_of(node: Node) -> str:
    """Return an operator's name: ``relu.default``, or ``aten.relu.default`` in edge dialect."""
    return str(getattr(node.target, "__name__", node.target))


def conversion_of(node: Node) -> Literal["quantize", "dequantize"] | None:
    """Return which conversion a node is, or None for any other operator."""
    name = name_of(node).removeprefix("quantized_decomposed.")
    return next((kind for start, kind in CONVERSIONS.items() if name.startswith(start)), None)


def float_operators(nodes: Iterable[Node]) -> Iterator[LoweredOperator]:
    """Return the operators among some nodes that are not delegated."""
    for node in nodes:
        if (name := origin(node)) is not None:
            reads = [dtype for source in _read(node) for dtype in dtypes_of(source)]
            yield LoweredOperator(name, name_of(node), False, None, reads, dtypes_of(node))


def float_conversions(nodes: Iterable[Node]) -> Iterator[Conversion]:
    """Return the conversions among some nodes that are not delegated."""
    for node in nodes:
        kind = conversion_of(node)
        if kind is not None:
            producers = filter(None, map(origin, node.all_input_nodes))
            yield Conversion(kind, None, producers, filter(None, map(origin, node.users)))


def _read(node: Node) -> list[Node]:
    """Return the inputs of a node, without the memory that its output is written to."""
    outputs = {each for name, each in node.kwargs.items() if name.startswith("out")}
    return [each for each in node.all_input_nodes if each not in outputs]


def dtypes_of(node: Node) -> list[str]:
    """The dtypes of the tensors that a node returns, without ``torch.``."""
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    dtypes = [getattr(each, "dtype", None) for each in values]
    return [str(dtype).removeprefix("torch.") for dtype in dtypes if dtype is not None]
