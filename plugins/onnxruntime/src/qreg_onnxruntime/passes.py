"""Rewrites of a program ahead of its export, so that ONNX Runtime fuses more operators.

The rewrites change the results of a program by no more than the rounding of its quantizations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import bounds_of
from qreg.graph.equivalents import bias_of, product_without_bias
from qreg.graph.insertion import call_before
from qreg.graph.nodes import called, calls, sole_user
from qreg.graph.operators import ADDMM, COPIES, LINEAR
from qreg.graph.provenance import CUSTOM, origin, producer
from qreg_onnxruntime.checks import QUANTIZING

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

HALF = 0.501  # fraction of the distance between two quantized values
DEQUANTIZE = "quantized_decomposed.dequantize"


def ready(program: ExportedProgram) -> dict[str, str]:
    """Rewrite a program in place and return its eliminated operators.

    The result maps the origin of each eliminated operator to the origin of its producer. Eliminated
    are copies, and clamps that the quantization downstream implies. ``""`` is the origin of a value
    that comes from a quantization.
    """
    absorbed = {_known(node): _known(producer(node)) for node in calls(program.graph, COPIES)}
    for quantize in calls(program.graph, QUANTIZING):
        clamp = quantize.all_input_nodes[0]
        if _is_done_by(quantize, clamp):
            before = clamp.all_input_nodes[0]
            clamp.replace_all_uses_with(before)
            program.graph.erase_node(clamp)
            absorbed[_known(clamp)] = origin(before) or ""
    for node in filter(_gives_float, calls(program.graph, (*LINEAR, *ADDMM))):
        _separate_bias(node)
    program.graph_module.recompile()
    return absorbed


def _known(node: Node) -> str:
    return origin(node) or node.name


def _is_done_by(quantize: Node, clamp: Node) -> bool:
    """Whether the quantized range lies within the bounds of a clamp, except for rounding.

    onnxruntime 1.32 removes most such clamps when it loads a model, but too late to fuse the linear
    layer upstream of a relu.
    """
    bounds = bounds_of(clamp, called(clamp))
    parameters: Any = quantize.args[1:5]
    known = all(isinstance(each, (int, float)) for each in parameters)
    if bounds is None or not known or sole_user(clamp) is not quantize:
        return False
    scale, zero, low, high = parameters
    beyond = bounds[0] - (low - zero) * scale, (high - zero) * scale - bounds[1]
    return bool(max(beyond) <= HALF * scale)


def _gives_float(node: Node) -> bool:
    """Whether the result of a matrix product of quantized tensors is read in float."""
    factors = node.all_input_nodes[-2:] if "addmm" in str(node.target) else node.all_input_nodes[:2]
    quantized = [DEQUANTIZE in str(factor.target) for factor in factors]
    user = sole_user(node)
    stays = user is not None and called(user) in QUANTIZING
    return all(quantized) and len(quantized) == 2 and not stays


def _separate_bias(node: Node) -> None:
    """Remove the bias of a matrix product, and subtract its negative downstream.

    onnxruntime 1.32 has no integer kernel for a Gemm with a bias and a float result. It fuses every
    MatMul with a downstream Add into a Gemm before it matches quantized products; it does not fuse
    a Sub.
    """
    import torch

    bias = bias_of(node)
    if bias is None:
        return
    total = product_without_bias(node, inherit=True)
    negative = call_before(node, torch.ops.aten.neg.default, bias)
    node.meta = {name: value for name, value in node.meta.items() if name != CUSTOM}
    node.target, node.args = torch.ops.aten.sub.Tensor, (total, negative)
