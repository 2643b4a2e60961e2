"""Checks for what ONNX cannot represent, made ahead of the export; errors name the operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qreg.errors import LoweringError
from qreg.graph.provenance import described

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

QUANTIZE = (
    "quantized_decomposed.quantize_per_tensor.default",
    "quantized_decomposed.quantize_per_tensor.tensor",
)


def check_lowerable(program: ExportedProgram) -> None:
    """Raise ``LoweringError`` for narrow ranges of activations and for inputs mutated in place."""
    for node in quantizations(program.graph):
        _check_range(node)
    for name in program.graph_signature.user_inputs_to_mutate.values():
        raise LoweringError(
            f"the program changes its input {name!r} in place, which ONNX does not support. "
            "Compute a new tensor and return it"
        )


def quantizations(graph: Graph) -> Iterator[Node]:
    """Yield the nodes that quantize a tensor."""
    return (node for node in graph.nodes if str(node.target) in QUANTIZE)


def _check_range(node: Node) -> None:
    import torch

    low, high, dtype = node.args[3:6]
    assert isinstance(dtype, torch.dtype)
    ends = torch.iinfo(dtype)
    if (low, high) != (ends.min, ends.max):
        raise LoweringError(
            f"{described(node.all_input_nodes[0])} is quantized to [{low}, {high}] (expected the "
            f"full range of the dtype, [{ends.min}, {ends.max}], for QuantizeLinear of ONNX). Use "
            "a config of that range"
        )
