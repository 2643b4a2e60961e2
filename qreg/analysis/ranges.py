"""Observed ranges that use few of the quantized values.

The smallest scale, ``eps``, is a floor: a range below ``eps`` times the number of quantized values
uses few of them. A constant uses a single one. An input of a group with shared qparams uses few of
them if the range of another input is much larger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import Interpreter
from torchao.quantization.pt2e import ObserverBase

from qreg.graph.mutation import keeping_state
from qreg.graph.provenance import module_path
from qreg.inputs.specs import cloned

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


Concern = Literal["at the eps floor", "constant", "starved by shared parameters"]
FEWEST_VALUES = 32  # the least that an input of a shared group should use: 5 bits


@frozen
class Range:
    """An observed range that quantizes badly.

    ``low`` and ``high`` are the extremes over all channels, in units of the tensor. ``channels`` is
    the number of channels, 1 for a tensor as a whole. ``concerned`` is the number of channels that
    have the concern. ``values`` is the number of quantized values that a starved input uses, and
    None for other concerns.
    """

    node: str
    module: str
    concern: Concern
    low: float
    high: float
    eps: float
    channels: int
    concerned: int
    values: int | None = None


def concerns(prepared: GraphModule, samples: Sequence[tuple[Any, ...]] = ()) -> list[Range]:
    """Return the ranges of a calibrated model that use few of the quantized values.

    Inputs of groups with shared qparams are judged on ``samples``, with one forward pass for each.
    A model without such groups is not run.
    """
    found: list[Range] = []
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            observer = prepared.get_submodule(str(node.target))
            if isinstance(observer, ObserverBase) and hasattr(observer, "min_val"):
                found += _concerns(node.args[0], observer)
    return [*found, *_starved(prepared, samples)]


def _starved(prepared: GraphModule, samples: Sequence[tuple[Any, ...]]) -> Iterator[Range]:
    shared = _shared_inputs(prepared)
    seen = _extremes(prepared, samples if shared else ())
    for source, observer in shared.items():
        low, high = seen.get(source, (0.0, 0.0))
        scale, _ = observer.calculate_qparams()
        values = round((high - low) / float(scale)) + 1
        if low < high and values < FEWEST_VALUES:
            where, eps = (source.name, module_path(source)), float(observer.eps)
            yield Range(*where, "starved by shared parameters", low, high, eps, 1, 1, values)


def _shared_inputs(prepared: GraphModule) -> dict[Node, ObserverBase]:
    """Return the inputs of operators whose inputs share one observer, with that observer."""
    found: dict[Node, ObserverBase] = {}
    for node in prepared.graph.nodes:
        entering = {
            each.args[0]: observer
            for each in node.all_input_nodes
            if (observer := _observer(prepared, each)) is not None
        }
        if len(entering) > 1 and len(set(map(id, entering.values()))) == 1:
            found |= entering
    return found


def _observer(prepared: GraphModule, node: Node) -> ObserverBase | None:
    """Return the static per-tensor observer that a node calls, or None."""
    called = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
    known = isinstance(called, ObserverBase) and getattr(called, "min_val", torch.empty(0)).numel()
    return called if known == 1 else None


class _Extremes(Interpreter):
    """Run a prepared model without its observers, and keep the extremes of their inputs."""

    def __init__(self, prepared: GraphModule) -> None:
        super().__init__(prepared)
        self._prepared = prepared
        self.seen: dict[Node, tuple[float, float]] = {}

    def run_node(self, n: Node) -> Any:
        if _observer(self._prepared, n) is None:
            return super().run_node(n)
        (source,) = n.all_input_nodes
        value: Tensor = self.env[source]
        if value.numel():
            low, high = map(float, value.aminmax())
            before = self.seen.get(source, (low, high))
            self.seen[source] = min(low, before[0]), max(high, before[1])
        return value


def _extremes(
    prepared: GraphModule, samples: Sequence[tuple[Any, ...]]
) -> dict[Node, tuple[float, float]]:
    run = _Extremes(prepared)
    with torch.no_grad(), keeping_state(prepared):
        for sample in samples:
            run.run(*cloned(sample))
    return run.seen


def _concerns(source: Node, observer: ObserverBase) -> Iterator[Range]:
    low, high = observer.min_val.reshape(-1).double(), observer.max_val.reshape(-1).double()
    eps = float(observer.eps)
    varies = source.op != "get_attr"  # a scalar of the model is always a constant
    constant = (low == high) & varies
    flat = (_scale(low, high, observer) <= eps) & (low != high)
    masks: tuple[tuple[Concern, Tensor], ...] = (("at the eps floor", flat), ("constant", constant))
    for concern, mask in masks:
        if mask.any():
            ends, counts = (float(low.min()), float(high.max())), (len(mask), int(mask.sum()))
            yield Range(source.name, module_path(source), concern, *ends, eps, *counts)


def _scale(low: Tensor, high: Tensor, observer: ObserverBase) -> Tensor:
    """Return the scale without the floor, as torchao computes it from a range that includes 0."""
    levels = observer.quant_max - observer.quant_min
    low, high = low.clamp(max=0), high.clamp(min=0)
    if observer.qscheme in (torch.per_tensor_symmetric, torch.per_channel_symmetric):
        return torch.maximum(-low, high).div(levels / 2)
    return (high - low).div(levels)
