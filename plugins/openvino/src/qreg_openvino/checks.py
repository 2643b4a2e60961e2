"""What an OpenVINO model cannot do, found before anything is converted, and places in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.errors import LoweringError
from qreg.graph.provenance import module_path

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

CHOOSING = "quantized_decomposed.choose_qparams"


def check_lowerable(program: ExportedProgram) -> None:
    """Raises ``LoweringError`` for activations that are quantized dynamically."""
    for node in program.graph.nodes:
        if str(node.target).startswith(CHOOSING):
            raise LoweringError(
                f"{described(node.all_input_nodes[0])} is quantized dynamically, which OpenVINO "
                "has no operator for: use a static config"
            )


def described(node: Node) -> str:
    """An operator or an input, with its module, as a user knows it."""
    if node.op == "placeholder":
        return f"the input {node.name!r}"
    module = module_path(node)
    return f"{node.target} ({node.name}){f' in module {module!r}' if module else ''}"
