"""Layers as products of matrices: a row of weights for each output channel, times what it reads.

For each group of a convolution, the output is ``rows @ columns.T``: ``rows`` of shape (rows,
columns) are the weights, and ``columns`` of shape (samples, columns) are the patches of the input
(im2col). A transposed convolution is a convolution of its input with zeros between the values, and
the kernel in reverse (Dumoulin and Visin, A guide to convolution arithmetic, 2016, chapter 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from qreg.algorithms.layers import Layer
from qreg.graph.nodes import argument

STRIDE, PADDING, DILATION, DILATION_TRANSPOSED, OUTPUT_PADDING = 3, 4, 5, 7, 5


def rows(layer: Layer, values: Tensor) -> Tensor:
    """Return values of the shape of the weight in the shape (groups, rows, columns)."""
    grouped = values.reshape(layer.groups, -1, *values.shape[1:])
    if layer.is_transposed:
        grouped = grouped.transpose(1, 2).flip(tuple(range(3, grouped.dim())))
    return grouped.flatten(2)


def of_rows(layer: Layer, values: Tensor) -> Tensor:
    """Return rows in the shape of the weight: the reverse of ``rows``."""
    shape = layer.weight.shape
    if not layer.is_transposed:
        return values.reshape(shape)
    inputs = shape[0] // layer.groups
    grouped = values.reshape(layer.groups, shape[1], inputs, *shape[2:])
    return grouped.flip(tuple(range(3, grouped.dim()))).transpose(1, 2).reshape(shape)


def columns(layer: Layer, x: Tensor) -> Tensor:
    """Return what each output value of a layer reads, in the shape (groups, samples, columns)."""
    size = layer.weight.shape[2:]
    if not size:
        return x.reshape(1, -1, x.shape[-1])
    if x.dim() == len(size) + 1:
        x = x.unsqueeze(0)
    dilation = _sizes(layer, DILATION_TRANSPOSED if layer.is_transposed else DILATION, 1)
    if layer.is_transposed:
        x, stride = _with_zeros(layer, x, dilation), [1] * len(size)
    else:
        stride = _sizes(layer, STRIDE, 1)
        x = functional.pad(
            x, [each for p in reversed(_sizes(layer, PADDING, 0)) for each in [p, p]]
        )
    for axis, (kernel, step, spread) in enumerate(zip(size, stride, dilation, strict=True), 2):
        x = x.unfold(axis, spread * (kernel - 1) + 1, step)[..., ::spread]
    places = range(2, 2 + len(size))
    x = x.reshape(len(x), layer.groups, -1, *x.shape[2:])  # then the places, then the kernel
    places = range(3, 3 + len(size))
    x = x.permute(1, 0, *places, 2, *(each + len(size) for each in places))
    return x.flatten(2 + len(size)).flatten(1, -2)


def _with_zeros(layer: Layer, x: Tensor, dilation: Sequence[int]) -> Tensor:
    """Return the input of the convolution that equals a transposed one."""
    strides, paddings = _sizes(layer, STRIDE, 1), _sizes(layer, PADDING, 0)
    beyond = _sizes(layer, OUTPUT_PADDING, 0)
    size = layer.weight.shape[2:]
    spread = x.new_zeros(
        *x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True))
    )
    places: Any = (..., *(slice(None, None, s) for s in strides))
    spread[places] = x
    ends = [
        end
        for k, d, p, more in reversed(list(zip(size, dilation, paddings, beyond, strict=True)))
        for end in (d * (k - 1) - p, d * (k - 1) - p + more)
    ]
    return functional.pad(spread, ends)


def _sizes(layer: Layer, position: int, default: int) -> list[int]:
    """Return an argument for each spatial dimension."""
    given: Any = argument(layer.node, position)
    spatial = len(layer.weight.shape) - 2
    values = [default] if given is None else [*given] if isinstance(given, Sequence) else [given]
    return values * spatial if len(values) == 1 else values
