"""Compute the qparams of the dynamic input of a linear for each row, as the delegate does.

``convert_pt2e`` computes them for the whole tensor. The delegate (executorch 1.4.1) lowers both
forms to the same operators, with qparams for each row. A row of a language model is a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.nodes import called, calls
from qreg.graph.operators import DYNAMIC_DEQUANTIZE, DYNAMIC_QUANTIZE, LINEAR

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

CHOOSE = ("quantized_decomposed.choose_qparams.tensor",)
ENDS = (-128, 127)  # of the operator for rows, in torch 2.13


def in_rows(converted: GraphModule) -> GraphModule:
    """Rewrite the dynamic inputs that only linears read; the graph is rewritten in place."""
    for choose in calls(converted.graph, CHOOSE):
        readers = [reader for chosen in choose.users for reader in chosen.users]
        if _is_of_rows(choose) and all(map(_is_for_linears, readers)):
            _rewrite(choose, dict.fromkeys(readers))
    converted.recompile()
    return converted


def _is_of_rows(choose: Node) -> bool:
    import torch

    source, low, high, _, dtype = choose.args
    return _rank(source) > 1 and (low, high) == ENDS and dtype is torch.int8


def _rank(source: Any) -> int:
    """Return the number of dimensions of a value, which may come from a static operator."""
    while "val" not in source.meta:  # a quantize or a dequantize that convert inserted
        source = source.all_input_nodes[0]
    return int(source.meta["val"].dim())


def _is_for_linears(reader: Node) -> bool:
    """Whether a node quantizes the input, or dequantizes it for linears only."""
    if called(reader) == DYNAMIC_QUANTIZE:
        return True
    return called(reader) == DYNAMIC_DEQUANTIZE and all(
        called(user) in LINEAR and user.args[0] is reader for user in reader.users
    )


def _rewrite(choose: Node, readers: dict[Node, None]) -> None:
    import torch

    operators: Any = torch.ops.quantized_decomposed
    choose.target = operators.choose_qparams_per_token_asymmetric.default
    choose.args = (choose.args[0], torch.int8)
    for reader in readers:
        if called(reader) == DYNAMIC_QUANTIZE:
            reader.target = operators.quantize_per_token.default
            continue
        reader.target = operators.dequantize_per_token.default
        reader.args, reader.kwargs = (*reader.args, torch.float32), {}
