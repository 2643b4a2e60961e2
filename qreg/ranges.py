"""What the observers of a prepared model saw that leaves few codes to the values.

The smallest scale, ``eps``, is a floor: values spread less than ``eps`` times the number of codes
use few of them. A constant has one value, and every code but one is wasted on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from attrs import frozen
from torch import Tensor
from torchao.quantization.pt2e import ObserverBase

from qreg.scopes import module_path

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

Concern = Literal["at the eps floor", "constant"]


@frozen
class Range:
    """A range that an observer saw and that quantizes badly.

    ``low`` and ``high`` are the extremes of all channels, in units of the tensor; ``channels`` is
    how many there are, 1 for a tensor as a whole, and ``concerned`` how many of them it is about.
    """

    node: str
    module: str
    concern: Concern
    low: float
    high: float
    eps: float
    channels: int
    concerned: int


def concerns(prepared: GraphModule) -> list[Range]:
    """The ranges of a calibrated model that leave few codes to the values; others are left out."""
    found: list[Range] = []
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            observer = prepared.get_submodule(str(node.target))
            if isinstance(observer, ObserverBase) and hasattr(observer, "min_val"):
                found += _concerns(node.args[0], observer)
    return found


def _concerns(source: Node, observer: ObserverBase) -> Iterator[Range]:
    low, high = observer.min_val.reshape(-1).double(), observer.max_val.reshape(-1).double()
    eps = float(observer.eps)
    varies = source.op != "get_attr"  # a scalar of the model is a constant by its nature
    constant = (low == high) & varies
    flat = (_scale(low, high, observer) <= eps) & (low != high)
    masks: tuple[tuple[Concern, Tensor], ...] = (("at the eps floor", flat), ("constant", constant))
    for concern, mask in masks:
        if mask.any():
            ends, counts = (float(low.min()), float(high.max())), (len(mask), int(mask.sum()))
            yield Range(source.name, module_path(source), concern, *ends, eps, *counts)


def _scale(low: Tensor, high: Tensor, observer: ObserverBase) -> Tensor:
    """The scale before the floor, as torchao computes it from a range, zero always in it."""
    levels = observer.quant_max - observer.quant_min
    low, high = low.clamp(max=0), high.clamp(min=0)
    if observer.qscheme in (torch.per_tensor_symmetric, torch.per_channel_symmetric):
        return torch.maximum(-low, high).div(levels / 2)
    return (high - low).div(levels)
