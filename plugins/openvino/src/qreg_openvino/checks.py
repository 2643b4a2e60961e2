"""Checks for what OpenVINO does not support, made ahead of the conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.errors import LoweringError
from qreg.graph.provenance import described

if TYPE_CHECKING:
    from torch.export import ExportedProgram

CHOOSING = "quantized_decomposed.choose_qparams"


def check_lowerable(program: ExportedProgram) -> None:
    """Raise ``LoweringError`` for activations that are quantized dynamically."""
    for node in program.graph.nodes:
        if str(node.target).startswith(CHOOSING):
            raise LoweringError(
                f"{described(node.all_input_nodes[0])} is quantized dynamically, which OpenVINO "
                "does not support. Use a static config"
            )
