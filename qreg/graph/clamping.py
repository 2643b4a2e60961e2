"""Clamps in the form that kernels fuse: between two numbers, both of them finite.

``x.clamp(min=0.1)``, ``torch.maximum(x, torch.tensor(0.1))`` and a hardtanh up to infinity are the
same operator. Kernels that fuse a clamp with what computes its input know it by two numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qreg.graph.nodes import argument, is_in_place, tensor_at
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Node


Bounds = tuple[float, float]

LARGEST = 3.4028234663852886e38  # of the floats of 32 bits
BOUNDED = ("aten.clamp.default", "aten.hardtanh.default")
FIXED: dict[str, Bounds] = {"aten.relu.default": (0.0, math.inf), "aten.relu6.default": (0.0, 6.0)}
BY_TENSORS = {  # and the names of the bounds that their arguments are, by position
    "aten.maximum.default": ("min",),
    "aten.minimum.default": ("max",),
    "aten.clamp.Tensor": ("min", "max"),
}


def finite_bounds(node: Node) -> Bounds | None:
    """The numbers between which a clamp or hardtanh keeps floats.

    A bound that is left out or infinite is the largest number of the type. None for bounds that are
    computed, that leave nothing between them, or that clamp another type.
    """
    import torch

    dtype = node.meta["val"].dtype
    if not dtype.is_floating_point:
        return None
    largest = min(LARGEST, torch.finfo(dtype).max)
    bounds = bounds_of(node, operator_name(node.target), largest)
    if bounds is None:
        return None
    low, high = (min(max(float(each), -largest), largest) for each in bounds)
    return (low, high) if low < high else None


def bounds_of(node: Node, name: str, largest: float = math.inf) -> Bounds | None:
    """The numbers between which an operator of that name clamps, as its call has them.

    ``largest`` stands for a bound that is left out. None for an operator that does not clamp, and
    for bounds that are computed.
    """
    if name in FIXED:
        low, high = FIXED[name]
        return low, min(high, largest)
    if name not in BOUNDED:
        return None
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = (node.kwargs.get(schema[place].name, argument(node, place)) for place in (1, 2))
    missing = (-1.0, 1.0) if "hardtanh" in name else (-largest, largest)
    low, high = (
        default if bound is None else bound for bound, default in zip(given, missing, strict=True)
    )
    return (low, high) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None


def spell_out_bounds(node: Node) -> bool:
    """Gives a clamp or hardtanh both of its bounds, as finite numbers."""
    bounds = finite_bounds(node)
    if bounds is None or node.args[1:] == bounds:
        return False
    node.args, node.kwargs = (node.args[0], *bounds), {}
    return True


def clamp_as_hardtanh(node: Node) -> bool:
    """Makes a clamp of floats a hardtanh; a clamp with bounds that are computed stays one."""
    import torch

    bounds = finite_bounds(node)
    if bounds is None:
        return False
    hardtanh = torch.ops.aten.hardtanh_ if is_in_place(node) else torch.ops.aten.hardtanh
    node.target, node.args, node.kwargs = hardtanh.default, (node.args[0], *bounds), {}
    return True


def clamp_by_numbers(node: Node) -> bool:
    """Makes one of ``BY_TENSORS`` a clamp, where its bounds are constants of one value each."""
    import torch

    source, *tensors = node.args
    names = BY_TENSORS[operator_name(node.target)]
    if "clamp" not in str(node.target) and _value(source) is not None:
        source, tensors = tensors[0], [source]
    bounds = {**dict(zip(names, tensors, strict=False)), **node.kwargs}
    values = {name: _value(tensor) for name, tensor in bounds.items() if tensor is not None}
    if None in values.values() or not _is_of_type(source, node):
        return False
    clamp = torch.ops.aten.clamp_ if is_in_place(node) else torch.ops.aten.clamp
    node.target, node.kwargs = clamp.default, {}
    node.args = (source, values.get("min"), values.get("max"))
    return True


def _value(tensor: Any) -> float | None:
    """The value of all elements of a constant; None if there are several, or it is no constant."""
    if getattr(tensor, "op", "") != "get_attr":
        return None
    elements = tensor_at(tensor).detach().flatten()
    if not len(elements) or not (elements == elements[0]).all():  # NaN is unequal to itself
        return None
    return float(elements[0])


def _is_of_type(source: Any, node: Node) -> bool:
    """Whether what is clamped has the shape and type of the result, in floating point."""
    before, after = source.meta["val"], node.meta["val"]
    same = before.dtype is after.dtype and tuple(before.shape) == tuple(after.shape)
    return bool(same and after.dtype.is_floating_point)
