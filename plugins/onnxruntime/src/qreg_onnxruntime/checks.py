"""Checks for what ONNX cannot represent, made ahead of the export; errors name the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.errors import LoweringError
from qreg.graph.nodes import calls
from qreg.graph.operators import DYNAMIC_QUANTIZE, QUANTIZE
from qreg.graph.provenance import described

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

QUANTIZING = (QUANTIZE, DYNAMIC_QUANTIZE)


def check_lowerable(program: ExportedProgram) -> None:
    """Raise ``LoweringError`` for narrow ranges of activations and for inputs mutated in place."""
    for node in calls(program.graph, QUANTIZING):
        _check_range(node)
    for name in program.graph_signature.user_inputs_to_mutate.values():
        raise LoweringError(
            f"the program changes its input {name!r} in place, which ONNX does not support. "
            "Compute a new tensor and return it"
        )


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
