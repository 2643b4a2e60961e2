"""Activations in int8, which XNNPACK computes by a table of 256 values.

XNNPACK supports an int8 input and output for any of its unary operators. The partitioner
(executorch 1.4.1) would leave an activation in float between two conversions, although XNNPACK
fuses the three at load time in most cases, and the program would not show it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qreg.backends.patching import patched
from qreg.graph.insertion import call_before
from qreg.graph.nodes import called, sole_user
from qreg.graph.operators import DEQUANTIZE, QUANTIZE
from qreg_xnnpack.compat import statically_quantized, unary_configs

if TYPE_CHECKING:
    from torch.fx import Node

# The scale and zero point of a sigmoid, whose values are between 0 and 1.
SIGMOID = (1 / 256, -128)


def activations_by_table() -> AbstractContextManager[None]:
    """Let the partitioner accept activations in int8 during a lowering."""
    name = "supported_precision_types"
    return patched(*((config, name, _and_static) for config in unary_configs()))


def _and_static(supported: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    return lambda itself: [*supported(itself), statically_quantized()]


def silu_by_table(node: Node) -> None:
    """Rewrite an int8 ``silu`` as its input times a sigmoid, both in int8."""
    import torch

    aten, source = torch.ops.aten, node.all_input_nodes[0]
    quantize = sole_user(node)
    if called(source) != DEQUANTIZE or quantize is None or called(quantize) != QUANTIZE:
        return
    parameters = (*SIGMOID, *quantize.args[3:])
    sigmoid = call_before(node, aten.sigmoid.default, source, inherit=True)
    codes = call_before(node, quantize.target, sigmoid, *parameters)
    values = call_before(node, source.target, codes, *parameters)
    node.target, node.args, node.kwargs = aten.mul.Tensor, (source, values), {}
