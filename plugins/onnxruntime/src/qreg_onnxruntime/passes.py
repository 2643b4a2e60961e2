"""Rewrites of a program ahead of its export, so that ONNX Runtime fuses what it can.

They change what the program computes by no more than the rounding of its quantizations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.graph.clamping import bounds_of
from qreg.graph.insertion import call_before
from qreg.graph.nodes import argument, operator_name, sole_user
from qreg.graph.provenance import CUSTOM, origin, producer
from qreg_onnxruntime.checks import QUANTIZE, quantizations

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

HALF = 0.501  # of the distance between two codes, which is what quantizing rounds by
DEQUANTIZE = "quantized_decomposed.dequantize"
COPIES = ("aten.clone.default", "aten.contiguous.default")
BIASED = ("aten.linear.default", "aten.addmm.default")


def ready(program: ExportedProgram) -> dict[str, str]:
    """The program rewritten in place.

    Gives the operators that nothing is left of, each with the one that it changed the values of, by
    their origins: clamps that the quantization behind them does, and copies. ``""`` is a value that
    comes from a quantization.
    """
    absorbed = {
        _known(node): _known(producer(node)) for node in program.graph.nodes if _copies(node)
    }
    for quantize in list(quantizations(program.graph)):
        clamp = quantize.all_input_nodes[0]
        if _is_done_by(quantize, clamp):
            before = clamp.all_input_nodes[0]
            clamp.replace_all_uses_with(before)
            program.graph.erase_node(clamp)
            absorbed[_known(clamp)] = origin(before) or ""
    for node in list(program.graph.nodes):
        if operator_name(node.target) in BIASED and _gives_float(node):
            _separate_bias(node)
    program.graph_module.recompile()
    return absorbed


def _copies(node: Node) -> bool:
    return node.op == "call_function" and operator_name(node.target) in COPIES


def _known(node: Node) -> str:
    return origin(node) or node.name


def _is_done_by(quantize: Node, clamp: Node) -> bool:
    """Whether the outermost codes lie at the bounds of a clamp or within, but for rounding.

    onnxruntime 1.32 finds that out for most of them when it loads a model, but not in time to see
    the linear layer before a relu.
    """
    name = operator_name(clamp.target) if clamp.op == "call_function" else ""
    bounds = bounds_of(clamp, name)
    parameters: Any = quantize.args[1:5]
    known = all(isinstance(each, (int, float)) for each in parameters)
    if bounds is None or not known or sole_user(clamp) is not quantize:
        return False
    scale, zero, low, high = parameters
    beyond = bounds[0] - (low - zero) * scale, (high - zero) * scale - bounds[1]
    return bool(max(beyond) <= HALF * scale)


def _gives_float(node: Node) -> bool:
    """Whether a product of quantized tensors is read in float."""
    factors = node.all_input_nodes[-2:] if "addmm" in str(node.target) else node.all_input_nodes[:2]
    quantized = [DEQUANTIZE in str(factor.target) for factor in factors]
    user = sole_user(node)
    stays = user is not None and str(user.target) in QUANTIZE
    return all(quantized) and len(quantized) == 2 and not stays


def _separate_bias(node: Node) -> None:
    """Takes the bias away from a product, and subtracts its negative behind it.

    onnxruntime 1.32 has no integer kernel for a Gemm with a bias that gives float, and makes a Gemm
    of every MatMul with an Add behind it before it looks for quantized ones; with a Sub it does
    not.
    """
    import torch

    bias: Any
    aten = torch.ops.aten
    if node.target == aten.addmm.default:
        bias, factors, target = node.args[0], node.args[1:3], aten.mm.default
    else:
        bias, factors, target = argument(node, 2), node.args[:2], aten.linear.default
    if bias is None:
        return
    total = call_before(node, target, *factors, inherit=True)
    negative = call_before(node, aten.neg.default, bias)
    node.meta = {name: value for name, value in node.meta.items() if name != CUSTOM}
    node.target, node.args = aten.sub.Tensor, (total, negative)
