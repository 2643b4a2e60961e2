"""Fixes for float operators next to int8 operators, so that they lower, load and are correct.

The partitioner (executorch 1.4.1) treats every operator between a dequantize and a quantize as
int8, even if the user keeps it in float, and tags the two as parts of it. A quantize or dequantize
without the tag is a conversion, and its consumer is in float. An operator with an int8 kernel
returns the same values in less time, so it stays in int8, except for three faults:

1. Operators that only move or clip values run with one set of qparams. With different qparams
   upstream and downstream, the program does not load or returns wrong values.
2. A dequantize with several readers is tagged for all of them; those in float read int8 values.
3. Some of the delegate's passes insert operators next to others: dimensions around a ``conv1d``
   (also the result of a batch norm), a second ``cat`` for operands beyond the limit of one, a
   quantized output for a pad. The passes quantize them next to any quantize or dequantize, tagged
   or not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qreg.backends.exported import name_of
from qreg.backends.patching import patched
from qreg.graph.insertion import call_before
from qreg.graph.nodes import sole_user
from qreg.graph.operators import DEQUANTIZE, QUANTIZE, TABULATED
from qreg_xnnpack.compat import is_absorbed, passes_that_quantize

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torch.fx.passes.infra.pass_base import PassResult

# Operators that the partitioner treats as int8 between a dequantize and a quantize, by their names
# after decomposition.
FUSED = {"aten.relu.default"}
WITH_ANY_PARAMETERS = {f"aten.{name}" for name in ("add.Tensor", "sub.Tensor", "mul.Tensor")}
WITH_ANY_PARAMETERS |= {"aten.mean.dim", *TABULATED}
ON_ONE_SET_OF_PARAMETERS = {
    "aten.cat.default",
    "aten.clamp.default",
    "aten.hardtanh.default",
    "aten.max_pool2d.default",
    "aten.permute_copy.default",
    "aten.relu.default",
    "aten.slice_copy.Tensor",
    "aten.unsqueeze_copy.default",
    "aten.view_copy.default",
    "dim_order_ops._to_dim_order_copy.default",
}

ASKED = ("is_quant", "is_dequant")


def taken_for_int8(graph_module: GraphModule) -> PassResult:
    """Fix faults 1 and 2 in a decomposed program, as a pass that changes no value.

    Moving, clipping and maxima commute with quantization.
    """
    from torch.fx.passes.infra.pass_base import PassResult

    changed = [_mend(node) for node in list(graph_module.graph.nodes)]
    if any(changed):
        graph_module.recompile()
    return PassResult(graph_module, any(changed))


def _mend(node: Node) -> bool:
    name, quantize = name_of(node), _quantize_behind(node)
    sources = node.all_input_nodes
    if quantize is None or not all(name_of(each) == DEQUANTIZE for each in sources):
        return False
    moved = name in ON_ONE_SET_OF_PARAMETERS
    for source in sources if moved or name in WITH_ANY_PARAMETERS else ():
        if moved and source.args[1:] != quantize.args[1:]:
            node.replace_input_with(source, _through(source, quantize, before=node))
        elif len(source.users) > 1:
            node.replace_input_with(source, _copied(source))
    return True


def _quantize_behind(node: Node) -> Node | None:
    """Return the quantize that is the only reader of a node or of its fused clamp, or None."""
    user = sole_user(node)
    if user is not None and name_of(user) in FUSED and name_of(node) == "aten.add.Tensor":
        user = sole_user(user)
    return user if user is not None and name_of(user) == QUANTIZE else None


def _through(value: Node, quantize: Node, *, before: Node) -> Node:
    """Return ``value``, quantized and dequantized with the qparams of a quantize."""
    parameters, floats = quantize.args[1:], value.meta["val"]
    integers = floats.to(parameters[-1])
    codes = call_before(before, quantize.target, value, *parameters, value=integers)
    return call_before(before, value.target, codes, *parameters, value=floats)


def _copied(dequantize: Node) -> Node:
    with dequantize.graph.inserting_after(dequantize):
        return dequantize.graph.node_copy(dequantize)


def float_beside_int8() -> AbstractContextManager[None]:
    """Fix fault 3 during a lowering: only tagged nodes count as quantized."""
    return patched(*((each, name, _tagged) for each in passes_that_quantize() for name in ASKED))


def _tagged(asks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda node: asks(node) and is_absorbed(node)
