"""What Inductor computes in float although torchao's quantizer annotates it, as seen in its graphs.

With torch 2.13: products, averages, tanh and leaky ReLU have no int8 kernel; an addition has one
only where it is fused into the linear or convolution in front of it.
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
# Nothing gives these quantized values when the ranges are found while the program runs.
STATIC_ONLY = frozenset(
    {*CONV2D, "aten.max_pool2d.default", "aten.cat.default", "aten.flatten.using_ints"}
)
# What computes on quantized values, and what hands them on.
ISLANDS = Islands(
    products=frozenset({*CONV2D, *LINEAR}),
    passing=frozenset({*CAT, *MAX_POOL2D, "aten.flatten.using_ints"}),
)
CEIL_MODE = 5  # the position of the argument
SMALL = 16  # torch 2.13.0, inductor/decomposition.py: of a vector and a matrix this small, a sum


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
    """A computed weight, no rows, or a product so small that Inductor writes it as a sum."""
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
    """torch 2.13.0 forgets to round up in its int8 kernel: the result has another shape."""
    return bool(argument(node, CEIL_MODE))


def _is_odd_cat(node: Node) -> bool:
    """Inductor looks for a written dimension, and for inputs that differ.

    Where no product reads what they join, their shared parameters would cost the smaller of them
    precision for nothing.
    """
    inputs: Any = node.args[0]
    fused = argument(node, 1) is not None and len(set(inputs)) == len(inputs)
    return not (fused and ISLANDS.read_by_products(node))


def _is_scattered(entering: Any) -> bool:
    """torch 2.13.0 fails to compile a linear of such an input, of sizes that it does not know."""
    value, sizes = entering.meta["val"], _shape(entering)
    is_static = all(isinstance(size, int) for size in sizes)
    return len(sizes) > 2 and not is_static and not value.is_contiguous()


def _is_unfused(add: Node) -> bool:
    return not _is_fused(add)


def _is_fused(add: Node) -> bool:
    """Whether an addition becomes part of the linear or convolution whose result it adds to."""
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
    """A linear of more than two dimensions is reshaped behind, with dynamic sizes for good."""
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
