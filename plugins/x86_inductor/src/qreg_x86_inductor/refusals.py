"""Operators that Inductor computes in float although torchao's quantizer annotates them.

The list was read from Inductor's final graphs (torch 2.13). Multiplications, matrix products,
averages, tanh and leaky ReLU have no int8 kernel. An addition has an int8 kernel only if it is
fused into the linear or convolution upstream of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qreg.annotators.profitability import Islands
from qreg.annotators.rules import is_dynamic
from qreg.graph.nodes import argument, is_constant, operator_name, sources
from qreg.graph.operators import ADD, CAT, LINEAR, MAX_POOL2D
from qreg.graph.walks import reachable

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

CONV2D = ("aten.conv2d.default",)
BEHIND_LINEAR = ("aten.relu.default", "aten.gelu.default")
NEVER = frozenset(
    {
        *("aten.mul.Tensor", "aten.matmul.default", "aten.tanh.default"),
        *("aten.leaky_relu.default", "aten.avg_pool2d.default", "aten.adaptive_avg_pool2d.default"),
    }
)
# In dynamic mode, the inputs of these operators are never quantized.
STATIC_ONLY = frozenset(
    {*CONV2D, "aten.max_pool2d.default", "aten.cat.default", "aten.flatten.using_ints"}
)
# Operators that compute on quantized values, and operators that pass quantized values on.
ISLANDS = Islands(
    products=frozenset({*CONV2D, *LINEAR}),
    passing=frozenset({*CAT, *MAX_POOL2D, "aten.flatten.using_ints"}),
)
CEIL_MODE = 5  # the position of the argument
SMALL = 16  # torch 2.13.0, inductor/decomposition.py: up to this size, vector @ matrix is a sum


def stays_float(node: Node, config: QuantizationConfig) -> bool:
    """Whether Inductor has no int8 kernel for an operator of a graph under a config."""
    name = operator_name(node.target)
    if not _is_float32(node) or name in NEVER or (is_dynamic(config) and name in STATIC_ONLY):
        return True
    odd = next((ask for names, ask in ODD.items() if name in names), None)
    return odd is not None and odd(node)


def _is_float32(node: Node) -> bool:
    import torch

    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _shape(value: Any) -> list[Any]:
    return list(value.meta["val"].shape)


def _is_odd_conv(node: Node) -> bool:
    return len(_shape(node.args[0])) != 4 or not is_constant(node.args[1])  # type: ignore[arg-type]


def _is_odd_linear(node: Node) -> bool:
    """Whether a linear has no int8 kernel.

    Its weight is not a constant, its input is a vector, its input is scattered (see
    ``_is_scattered``), or the product is so small that Inductor decomposes it into a sum.
    """
    entering, weight = node.args[:2]
    rows, features = _shape(entering)[:-1], _shape(weight)
    if not rows or not is_constant(weight) or _is_scattered(entering):  # type: ignore[arg-type]
        return True
    if any(size != 1 for size in rows):
        return False
    has_bias = argument(node, 2) is not None
    return features[0] == 1 or (has_bias and max(features) <= SMALL)


def _is_behind_reshape(node: Node) -> bool:
    return not _is_flat(node.args[0])  # type: ignore[arg-type]


def _is_odd_pool(node: Node) -> bool:
    """Whether a max pool is in ceil mode.

    The int8 kernel of torch 2.13.0 ignores ``ceil_mode``, so the shape of its result is wrong.
    """
    return bool(argument(node, CEIL_MODE))


def _is_odd_cat(node: Node) -> bool:
    """Whether a cat has no int8 kernel, or would gain nothing from it.

    Inductor fuses a cat only if its dimension is an explicit argument and its inputs are distinct.
    If no compute operator reads the result, shared qparams would only cost the inputs with the
    smaller ranges precision.
    """
    inputs: Any = node.args[0]
    fused = argument(node, 1) is not None and len(set(inputs)) == len(inputs)
    return not (fused and ISLANDS.read_by_products(node))


def _is_scattered(entering: Any) -> bool:
    """Whether an input has dynamic sizes, more than two dimensions and is not contiguous.

    torch 2.13.0 fails to compile a linear of such an input.
    """
    value, sizes = entering.meta["val"], _shape(entering)
    is_static = all(isinstance(size, int) for size in sizes)
    return len(sizes) > 2 and not is_static and not value.is_contiguous()


def _is_unfused(add: Node) -> bool:
    return not _is_fused(add)


def _is_fused(add: Node) -> bool:
    """Whether Inductor fuses an addition into the linear or convolution that it reads."""
    if add.kwargs.get("alpha", 1) != 1 or len(add.all_input_nodes) != 2:
        return False
    one, other = add.all_input_nodes
    return _takes(one, other, add) or _takes(other, one, add)


def _takes(compute: Node, residual: Node, add: Node) -> bool:
    weighted = operator_name(compute.target) in (*LINEAR, *CONV2D)
    if not weighted or len(compute.users) != 1 or residual is compute.args[0]:
        return False
    if not _is_float32(residual) or _shape(residual) != _shape(compute) or not _is_flat(compute):
        return False
    before = set(reachable([compute], sources))
    return all(user is add or user in before for user in residual.users)


def _is_flat(compute: Node) -> bool:
    """Whether no reshape stays between a node and its consumers.

    Inductor reshapes the result of a linear of more than two dimensions; with dynamic sizes, the
    reshape is not eliminated.
    """
    is_linear = operator_name(compute.target) in LINEAR
    sizes = _shape(compute) if is_linear else []
    return not is_linear or len(sizes) < 3 or all(isinstance(size, int) for size in sizes)


ODD = {
    BEHIND_LINEAR: _is_behind_reshape,
    ADD: _is_unfused,
    CAT: _is_odd_cat,
    CONV2D: _is_odd_conv,
    LINEAR: _is_odd_linear,
    MAX_POOL2D: _is_odd_pool,
}
