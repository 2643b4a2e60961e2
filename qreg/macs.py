"""How many multiply-accumulates an operator carries out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

if TYPE_CHECKING:
    from torch.fx import Node


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


# What attention becomes on a CPU, for which torch 2.13 has no formula.
# What torch takes apart into operators that have formulas.
COMPOSED = {
    *(torch.ops.aten.linear, torch.ops.aten.matmul, torch.ops.aten.scaled_dot_product_attention),
    *(torch.ops.aten.conv1d, torch.ops.aten.conv2d, torch.ops.aten.conv3d, torch.ops.aten.einsum),
    *(torch.ops.aten.conv_transpose1d, torch.ops.aten.conv_transpose2d),
    *(torch.ops.aten.conv_transpose3d, torch.ops.aten.bilinear, torch.ops.aten.mv),
}
ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def macs(node: Node) -> int:
    """The multiply-accumulates of one operator: half the floating-point operations torch counts.

    torch has formulas for products of matrices, convolutions and attention, on the shapes that the
    node's inputs were exported with; everything else counts as 0.
    """
    formulas = flop_registry.keys() | ATTENTION.keys() | COMPOSED
    if getattr(node.target, "overloadpacket", None) not in formulas:
        return 0
    arguments, keywords = tree_map(_value, (node.args, node.kwargs))
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter, torch.no_grad():
        node.target(*arguments, **keywords)  # type: ignore[operator]
    return int(counter.get_total_flops()) // 2


def _value(argument: Any) -> Any:
    return argument.meta["val"] if isinstance(argument, torch.fx.Node) else argument
