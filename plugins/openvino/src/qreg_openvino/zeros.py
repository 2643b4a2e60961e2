"""Products with a constant of zeros, as OpenVINO compiles them.

openvino 2025.4 and 2026.4 multiply the scale of a dequantization by the constant, and have no
kernel for a convolution or an elementwise operator whose result has the scale 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.insertion import call_before
from qreg.graph.known_values import known_value, lifted
from qreg.graph.nodes import calls, is_node
from qreg.graph.operators import MUL

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node


def multiply_zeros(program: ExportedProgram) -> None:
    """Replace the other factor of a constant of zeros by zeros of its shape."""
    import torch

    known = lifted(program)
    for node in calls(program.graph, MUL):
        factors = node.args[:2]
        for factor, other in (factors, factors[::-1]):
            if is_node(other) and _is_zero(factor, known):
                zeros = call_before(node, torch.ops.aten.zeros_like.default, other, inherit=True)
                node.replace_input_with(other, zeros)
                break
    program.graph_module.recompile()


def _is_zero(factor: Any, known: dict[Node, Tensor | None]) -> bool:
    value = known_value(factor, known) if is_node(factor) else factor
    return value is not None and not bool((value != 0).any() if is_node(factor) else value)
