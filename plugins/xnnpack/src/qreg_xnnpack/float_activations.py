"""Activations in float that the delegate lacks, in terms of operators that it has.

In ExecuTorch's portable kernels they take 10 to 20 times as long, outside of the delegate. Each
function rewrites a single call of a program in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import LARGEST
from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument

if TYPE_CHECKING:
    from torch.fx import Node


def hardsigmoid_in_parts(node: Node) -> None:
    """Rewrite ``hardsigmoid`` as ``clamp(x / 6 + 0.5, 0, 1)``.

    executorch decomposes it with integers, which it casts outside of the delegate at each call.
    """
    import torch

    aten = torch.ops.aten
    scaled = call_before(node, aten.mul.Tensor, node.args[0], 1 / 6, inherit=True)
    shifted = call_before(node, aten.add.Tensor, scaled, 0.5, inherit=True)
    node.target, node.args = aten.hardtanh.default, (shifted, 0.0, 1.0)


def elu_in_parts(node: Node) -> None:
    """Rewrite ``elu`` without scales as ``relu(x) + alpha * (exp(min(x, 0)) - 1)``."""
    import torch

    aten, source = torch.ops.aten, node.args[0]
    alpha: Any = 1.0 if argument(node, 1) is None else argument(node, 1)
    if {argument(node, 2), argument(node, 3)} - {None, 1} or node.kwargs:
        return
    below = call_before(node, aten.hardtanh.default, source, -LARGEST, 0.0, inherit=True)
    power = call_before(node, aten.exp.default, below, inherit=True)
    shifted = call_before(node, aten.sub.Tensor, power, 1.0, inherit=True)
    scaled = call_before(node, aten.mul.Tensor, shifted, float(alpha), inherit=True)
    above = call_before(node, aten.relu.default, source, inherit=True)
    node.target, node.args = aten.add.Tensor, (above, scaled)


def softplus_in_parts(node: Node) -> None:
    """Rewrite ``softplus`` with ``beta=1`` as ``relu(x) + log(1 + exp(-abs(x)))``."""
    import torch

    if {argument(node, 1), node.kwargs.get("beta")} - {None, 1}:
        return
    node.args = _softplus(node)
    node.target, node.kwargs = torch.ops.aten.add.Tensor, {}


def mish_in_parts(node: Node) -> None:
    """Rewrite ``mish`` as ``x * tanh(softplus(x))``."""
    import torch

    aten = torch.ops.aten
    total = call_before(node, aten.add.Tensor, *_softplus(node), inherit=True)
    factor = call_before(node, aten.tanh.default, total, inherit=True)
    node.target, node.args = aten.mul.Tensor, (node.args[0], factor)


def _softplus(node: Node) -> tuple[Node, Node]:
    """Insert the two terms of the softplus of a call's input."""
    import torch

    aten, source = torch.ops.aten, node.args[0]
    size = call_before(node, aten.abs.default, source, inherit=True)
    negative = call_before(node, aten.neg.default, size, inherit=True)
    power = call_before(node, aten.exp.default, negative, inherit=True)
    shifted = call_before(node, aten.add.Tensor, power, 1.0, inherit=True)
    log = call_before(node, aten.log.default, shifted, inherit=True)
    return call_before(node, aten.relu.default, source, inherit=True), log
