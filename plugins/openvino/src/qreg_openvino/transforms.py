"""Rewrites of a graph ahead of its annotation; none of them changes its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg.graph.clamping import BOUNDED, spell_out_bounds
from qreg.graph.nodes import operator_name
from qreg.graph.rewrites import rewritten, separate_odd_biases, simplified

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from qreg import Mode


def transform(model: GraphModule, modes: frozenset[Mode]) -> GraphModule:
    """Rewrite float clamps with two finite bounds, and add odd biases separately.

    openvino 2025.4 does not fuse a clamp with one bound, and computes another function for a clamp
    with an infinite bound.
    """
    model = separate_odd_biases(simplified(model, modes), modes)
    return rewritten(
        model, lambda node: operator_name(node.target) in BOUNDED and spell_out_bounds(node)
    )
