"""Rewrite clamps into the form that kernels fuse, with two finite bounds.

``x.clamp(min=0.1)``, ``torch.maximum(x, torch.tensor(0.1))`` and a hardtanh with an infinite upper
bound are equivalent. Kernels that fuse a clamp with the producer of its input require two numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qreg.graph.nodes import argument, is_in_place, tensor_at
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import Node


Bounds = tuple[float, float]

LARGEST = 3.4028234663852886e38  # the largest finite float32
BOUNDED = ("aten.clamp.default", "aten.hardtanh.default")
FIXED: dict[str, Bounds] = {"aten.relu.default": (0.0, math.inf), "aten.relu6.default": (0.0, 6.0)}
BY_TENSORS = {  # and the bounds that their arguments specify, by position
    "aten.maximum.default": ("min",),
    "aten.minimum.default": ("max",),
    "aten.clamp.Tensor": ("min", "max"),
}
ONE_SIDED = {  # and the bound that is their first argument
    "aten.clip.default": "min",
    "aten.clamp_min.default": "min",
    "aten.clamp_max.default": "max",
}


def finite_bounds(node: Node) -> Bounds | None:
    """Return the finite bounds of a clamp or hardtanh on floats.

    A bound that is omitted or infinite becomes the largest finite number of the type. None for
    bounds that are not constant numbers, for an empty interval, and for other types than floats.
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
    """Return the bounds of a clamping operator of that name, as given in its call.

    ``largest`` replaces an omitted bound. None for an operator that does not clamp, and for bounds
    that are not numbers.
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
    """Set both bounds of a clamp or hardtanh, as finite numbers; return whether it changed."""
    bounds = finite_bounds(node)
    if bounds is None or node.args[1:] == bounds:
        return False
    node.args, node.kwargs = (node.args[0], *bounds), {}
    return True


def clamp_as_hardtanh(node: Node) -> bool:
    """Turn a clamp of floats into a hardtanh, unless its bounds are computed.

    Return whether the node changed.
    """
    import torch

    bounds = finite_bounds(node)
    if bounds is None:
        return False
    hardtanh = torch.ops.aten.hardtanh_ if is_in_place(node) else torch.ops.aten.hardtanh
    node.target, node.args, node.kwargs = hardtanh.default, (node.args[0], *bounds), {}
    return True


def as_clamp(node: Node) -> None:
    """Turn one of ``ONE_SIDED`` into a clamp; an in-place operator stays in place."""
    import torch

    clamp = torch.ops.aten.clamp_ if is_in_place(node) else torch.ops.aten.clamp
    source, *limits = node.args
    if ONE_SIDED[operator_name(node.target)] == "max":
        limits = [None, *(limits or [node.kwargs["max"]])]
        node.kwargs = {}
    node.target, node.args = clamp.default, (source, *limits)


def clamp_by_numbers(node: Node) -> bool:
    """Turn one of ``BY_TENSORS`` into a clamp if each of its bounds is a constant of one value.

    Return whether the node changed.
    """
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
    """Return the value shared by all elements of a constant, or None if there is no such value."""
    if getattr(tensor, "op", "") != "get_attr":
        return None
    elements = tensor_at(tensor).detach().flatten()
    if not len(elements) or not (elements == elements[0]).all():  # NaN is unequal to itself
        return None
    return float(elements[0])


def _is_of_type(source: Any, node: Node) -> bool:
    """Whether the clamped tensor has the shape and the floating-point type of the result."""
    before, after = source.meta["val"], node.meta["val"]
    same = before.dtype is after.dtype and tuple(before.shape) == tuple(after.shape)
    return bool(same and after.dtype.is_floating_point)
