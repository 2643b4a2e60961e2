"""Layers that are spelled out as many operators, and operators that stay in float by request.

A recurrent layer over 50 steps becomes about 700 operators. Each of them has a ``Part``, which
names the row of reports that it belongs to. The operators of one row have one origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from torch.fx import Node

KEY = "qreg_part"
IN_FLOAT = "qreg_in_float"  # the reason why an algorithm keeps an operator in float
INSERTED = "qreg_inserted"  # set on an operator that an algorithm inserted


@frozen
class Part:
    """The row of an operator: its name, the operator of the layer, and why it stays in float.

    ``layer`` is the operator that was spelled out, such as ``aten.gru.input``. ``reason`` is
    ``""`` for operators that annotators may quantize.
    """

    row: str
    layer: str
    reason: str = ""


def part_of(node: Node) -> Part | None:
    """Return the part that a node is of its layer, or None for a node that is a row by itself."""
    found: Part | None = node.meta.get(KEY)
    return found


def float_reason(node: Node) -> str | None:
    """Return why a layer or an algorithm keeps an operator in float, or None if neither does."""
    part = part_of(node)
    return node.meta.get(IN_FLOAT) or (part.reason if part else None) or None


def row_of(node: Node) -> str:
    """Return the name of the row of an operator: of its part, or else of the node."""
    part = part_of(node)
    return node.name if part is None else part.row


def rows(nodes: list[Node]) -> dict[str, list[Node]]:
    """Return the operators of each row, in the order in which the rows are complete."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        name = row_of(node)
        found[name] = [*found.pop(name, []), node] if part_of(node) else [node]
    return found
