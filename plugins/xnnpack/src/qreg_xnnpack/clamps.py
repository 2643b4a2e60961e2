"""Clamps in a row, and clamps that leave one value.

The delegate (executorch 1.4.1) fuses a clamp with what computes its input, and then the next one in
place of the first: the last one alone counts. XNNPACK itself refuses to run an operator whose lower
bound is not below its upper one, which it also makes of two clamps without a value in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import LARGEST
from qreg.graph.nodes import argument, sole_user
from qreg_xnnpack.compat import edge_operator

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torch.fx.passes.infra.pass_base import PassResult

Bounds = tuple[float, float]

FIXED: dict[str, Bounds] = {"aten.relu.default": (0.0, LARGEST), "aten.relu6.default": (0.0, 6.0)}
MISSING: dict[str, Bounds] = {
    "aten.hardtanh.default": (-1.0, 1.0),
    "aten.clamp.default": (-LARGEST, LARGEST),
}


def one_clamp_in_a_row(graph_module: GraphModule) -> PassResult:
    """A pass over a decomposed program: clamps in a row are one, and one of one value is that.

    ``clamp(clamp(x, a, b), c, d)`` is ``clamp(x, min(max(a, c), d), min(max(b, c), d))``.
    """
    from torch.fx.passes.infra.pass_base import PassResult

    changed = [_joined(node) for node in list(graph_module.graph.nodes)]
    if any(changed):
        graph_module.recompile()
    return PassResult(graph_module, any(changed))


def _joined(node: Node) -> bool:
    """Whether a node is a clamp that was changed; what it is fused with reads no one else."""
    bounds = _bounds(node)
    if bounds is None:
        return False
    before: Any = node.args[0]
    inner = _bounds(before) if sole_user(before) is node else None
    if inner is not None:
        low, high = bounds
        bounds = min(max(inner[0], low), high), min(max(inner[1], low), high)
    if inner is None and bounds[0] < bounds[1]:
        return False
    node.args = (before.args[0] if inner else before, *bounds)
    node.target, node.kwargs = edge_operator("hardtanh"), {}
    if bounds[0] >= bounds[1]:
        node.target, node.args = edge_operator("full_like"), (node.args[0], bounds[1])
    if inner is not None:
        node.graph.erase_node(before)
    return True


def _bounds(node: Node) -> Bounds | None:
    """The numbers between which a node clamps floats, None for any other node."""
    name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
    known = name in FIXED or name in MISSING
    if not known or not node.meta["val"].dtype.is_floating_point:
        return None
    if name in FIXED:
        return FIXED[name]
    low, high = (
        missing if value is None else value
        for value, missing in zip(_given(node), MISSING[name], strict=True)
    )
    return (low, high) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None


def _given(node: Node) -> tuple[Any, Any]:
    """The bounds of a clamp or hardtanh as it has them: None for those that it leaves out."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    low, high = (node.kwargs.get(schema[place].name, argument(node, place)) for place in (1, 2))
    return low, high
