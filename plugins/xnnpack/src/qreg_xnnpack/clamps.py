"""Clamps in a row, clamps that leave one value, and clamps of int8 values that leave out 0.

The delegate (executorch 1.4.1) fuses a clamp with what computes its input, and then the next one in
place of the first: the last one alone counts. XNNPACK itself refuses to run an operator whose lower
bound is not below its upper one, which it also makes of two clamps without a value in common. Where
0 is not between the bounds, it runs neither a clamp of int8 values nor one fused with a maximum
pooling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.backends.exported import name_of
from qreg.graph.clamping import LARGEST, Bounds, bounds_of
from qreg.graph.nodes import sole_user
from qreg.graph.operators import DEQUANTIZE, QUANTIZE
from qreg_xnnpack.compat import edge_operator

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torch.fx.passes.infra.pass_base import PassResult

POOLING = "aten.max_pool2d.default"


def one_clamp_in_a_row(graph_module: GraphModule) -> PassResult:
    """Merge consecutive clamps of a decomposed program, and replace a clamp to one value with it.

    ``clamp(clamp(x, a, b), c, d)`` is ``clamp(x, min(max(a, c), d), min(max(b, c), d))``. A clamp
    of int8 values that leaves out 0 becomes one in float, and goes ahead of a maximum pooling.
    """
    from torch.fx.passes.infra.pass_base import PassResult

    steps = (_joined, _kept_in_float, _ahead_of_pooling)
    changed = [step(node) for step in steps for node in list(graph_module.graph.nodes)]
    if any(changed):
        graph_module.recompile()
    return PassResult(graph_module, any(changed))


def _joined(node: Node) -> bool:
    """Whether a node is a clamp that was changed; its fused producer has no other reader."""
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


def _kept_in_float(node: Node) -> bool:
    """Whether a clamp of int8 values was doubled, which the delegate computes in float.

    That is for bounds that 0 is not between; a second clamp to the same bounds changes nothing.
    """
    bounds, quantize = _bounds(node), sole_user(node)
    if bounds is None or bounds[0] <= 0 <= bounds[1] or quantize is None:
        return False
    source: Any = node.args[0]
    if (name_of(source), name_of(quantize)) != (DEQUANTIZE, QUANTIZE):
        return False
    with node.graph.inserting_before(node):
        node.replace_input_with(source, node.graph.node_copy(node))
    return True


def _ahead_of_pooling(node: Node) -> bool:
    """Whether a clamp was downstream of a maximum pooling that nothing else reads.

    It is moved upstream: the largest of clamped values is the largest value, clamped.
    """
    bounds = _bounds(node)
    pool: Any = node.args[0] if node.args else None
    if bounds is None or bounds[0] <= 0 <= bounds[1] or name_of(pool) != POOLING:
        return False
    if sole_user(pool) is not node:
        return False
    source = pool.args[0]
    with node.graph.inserting_before(pool):
        clamped = node.graph.node_copy(node, lambda each: source)
    clamped.meta["val"] = source.meta["val"]
    pool.replace_input_with(source, clamped)
    node.replace_all_uses_with(pool)
    node.graph.erase_node(node)
    _ahead_of_pooling(clamped)
    return True


def _bounds(node: Node) -> Bounds | None:
    """Return the numeric bounds of a clamp of floats, or None for any other node."""
    bounds = bounds_of(node, name_of(node), LARGEST)
    is_float = bounds is not None and node.meta["val"].dtype.is_floating_point
    return bounds if is_float else None
