"""Find the keys and values that several heads of attention share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.nodes import argument, called, shape_of
from qreg.graph.operators import RESHAPES, UNSQUEEZE

if TYPE_CHECKING:
    from torch.fx import Node


def before_repeat(value: Node) -> Node:
    """Return the tensor of fewer heads that a tensor repeats, each of them several times.

    Models repeat the heads of a tensor of shape (batch, fewer, length, depth) with an ``expand`` to
    (batch, fewer, times, length, depth) and a ``reshape``. Returns a tensor without repeats itself.
    """
    expand = _source(value, RESHAPES)
    raised = _source(expand, ("aten.expand.default",))
    source = _source(raised, (*UNSQUEEZE, *RESHAPES))
    if expand is None or raised is None or source is None:
        return value
    batch, heads, *rest = shape_of(value)
    before = shape_of(source)
    if len(before) != 4 or not all(isinstance(size, int) for size in (heads, *rest, *before)):
        return value
    fewer = before[1]
    repeats = [
        before == [batch, fewer, *rest],
        shape_of(raised) == [batch, fewer, 1, *rest],
        shape_of(expand) == [batch, fewer, heads // fewer, *rest],
    ]
    return source if all(repeats) else value


def _source(node: Node | None, operators: tuple[str, ...]) -> Node | None:
    """Return the first argument of a call of one of the operators."""
    if node is None or called(node) not in operators:
        return None
    source: Node = argument(node, 0)
    return source
