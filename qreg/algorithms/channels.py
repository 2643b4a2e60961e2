"""The channels of layers: the ranges of their values, and factors on the weights that use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from qreg.algorithms.layers import CONVOLUTIONS, GROUPS, LINEAR, TRANSPOSED, Layer
from qreg.graph.layers import part_of
from qreg.graph.nodes import called


class Ranges(NamedTuple):
    """The lowest and highest value of each channel of a layer's input and of its output.

    Each is a tensor of shape (channels,).
    """

    input_low: Tensor
    input_high: Tensor
    low: Tensor
    high: Tensor


def channel_ranges(
    known: Ranges | None, node: Node, inputs: Sequence[Tensor], output: Tensor
) -> Ranges | None:
    """Return the ranges of a linear layer or convolution, with those of another batch."""
    name = called(node)
    if (name != LINEAR and name not in GROUPS) or part_of(node) is not None:
        return None
    axis = -1 - {**CONVOLUTIONS, **TRANSPOSED}.get(name, 0)
    found = Ranges(*_extremes(inputs[0], axis), *_extremes(output, axis))
    if known is None:
        return found
    return Ranges(
        torch.minimum(known.input_low, found.input_low),
        torch.maximum(known.input_high, found.input_high),
        torch.minimum(known.low, found.low),
        torch.maximum(known.high, found.high),
    )


def _extremes(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    rows = values.detach().movedim(axis, 0).flatten(1)
    return rows.amin(1), rows.amax(1)


def grouped(layer: Layer, weight: Tensor) -> Tensor:
    """Return a weight in the shape (groups, outputs per group, inputs per group, kernel)."""
    if layer.axis == 1:
        return weight.reshape(layer.groups, -1, *weight.shape[1:2], _kernel(weight)).transpose(1, 2)
    return weight.reshape(layer.groups, -1, *weight.shape[1:2], _kernel(weight))


def _kernel(weight: Tensor) -> int:
    return int(weight.shape[2:].numel())


def output_magnitudes(layer: Layer, weight: Tensor) -> Tensor:
    """Return the largest magnitude of the weights of each output channel."""
    return grouped(layer, weight).abs().amax((2, 3)).flatten()


def input_magnitudes(layer: Layer, weight: Tensor) -> Tensor:
    """Return the largest magnitude of the weights that read each input channel."""
    return grouped(layer, weight).abs().amax((1, 3)).flatten()


def by_outputs(layer: Layer, factors: Tensor) -> Tensor:
    """Return factors of shape (output channels,) in a shape that broadcasts with the weight."""
    return _broadcast(layer, factors.reshape(layer.groups, -1, 1))


def by_inputs(layer: Layer, factors: Tensor) -> Tensor:
    """Return factors of shape (input channels,) in a shape that broadcasts with the weight."""
    return _broadcast(layer, factors.reshape(layer.groups, 1, -1))


def _broadcast(layer: Layer, factors: Tensor) -> Tensor:
    """Return factors of shape (groups, outputs or 1, inputs or 1) in the layout of the weight."""
    one, other = layer.weight.shape[:2]
    if layer.axis == 1:
        full = factors.transpose(1, 2).expand(-1, one // layer.groups, other)
    else:
        full = factors.expand(-1, one // layer.groups, other)
    return full.reshape(one, other, *[1] * (layer.weight.dim() - 2))


def constant_response(layer: Layer, weight: Tensor, values: Tensor) -> Tensor:
    """Return what a layer without padding computes of an input that is constant in each channel.

    ``values`` has shape (input channels,), the result (output channels,); the bias is not added.
    """
    summed = grouped(layer, weight).sum(3)
    return torch.einsum("goi,gi->go", summed, values.reshape(layer.groups, -1)).flatten()


def ranges_of(statistics: Any, layer: Layer) -> Ranges | None:
    """Return the ranges of a layer, or None if no batch ran it."""
    found: Ranges | None = statistics.get(layer.name)
    return found
