"""Rewrites of a program without which executorch's lowering for Arm fails on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.patterns import argument, operator_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram

POOLS = frozenset({"aten.max_pool2d.default", "aten.avg_pool2d.default"})


def spell_out_strides(program: ExportedProgram) -> None:
    """Gives each pooling its stride, which is its window where the call leaves it out.

    executorch 1.4.1 reads it by position.
    """
    for node in program.graph.nodes:
        pools = node.op == "call_function" and operator_name(node.target) in POOLS
        if pools and not argument(node, 2):
            node.args = (*node.args[:2], node.args[1], *node.args[3:])
