"""The second moments of the inputs of layers, which say what a change of the weights costs.

With weights ``W`` that become ``V``, and inputs ``X`` as columns, the squared error of the output
is ``trace((W - V) X X^T (W - V)^T)``; ``2 X X^T`` is its Hessian (Frantar and Alistarh, Optimal
Brain Compression, 2022, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from attrs import evolve, frozen
from torch import Tensor
from torch.fx import GraphModule, Node

from qreg.algorithms.layers import WEIGHT, Layer, layer_at, layers
from qreg.algorithms.products import columns, of_rows, rows
from qreg.graph.nodes import argument
from qreg.graph.values import constant_at
from qreg.observers.layout import spread
from qreg.plugins.types.algorithm import Calibration, Candidate, Change

LARGEST = 4096  # columns, beyond which a convolution is left out
LARGEST_LINEAR = 8192  # of a linear layer: 2 GiB and 40 s are needed for 8,192
ITEM = 4  # bytes of a moment in float32
PART = 1 << 21  # weights that are in memory in double precision at once
CHUNK = 1 << 22  # values of patches that are in memory at once


@frozen(eq=False)
class Rounded:
    """A layer with an observer that rounds its weight, and the grid of that observer.

    ``weight`` has the shape (groups, rows, columns), ``scale`` and ``zero`` too, but for fewer
    columns if some that are next to each other have one value. The dtypes are those of the layer
    and its observer. ``lowest`` and ``highest`` are the limits of the integers.
    """

    layer: Layer
    weight: Tensor
    scale: Tensor
    zero: Tensor
    lowest: int
    highest: int

    def double(self) -> Rounded:
        """Return the same in double precision, with all columns."""
        return self._with(lambda values: self._spread(values).double())

    def parts(self) -> Iterator[Rounded]:
        """Yield some rows at a time, with all columns.

        The head of a language model has hundreds of millions of weights.
        """
        for each in zip(*map(self._split, (self.weight, self.scale, self.zero)), strict=True):
            weight, scale, zero = map(self._spread, each)
            yield evolve(self, weight=weight, scale=scale, zero=zero)

    def integers(self) -> Tensor:
        """Return the weights in units of the scale, with the zero point added, before rounding."""
        return self.weight / self.scale + self.zero

    def values(self, integers: Integers) -> Tensor:
        """Return the values of new integers for the weights, in the shape of the layer's weight."""
        found = torch.empty(self.weight.shape, dtype=self.layer.weight.dtype)
        for part, place in zip(self.parts(), self._split(found), strict=True):
            place.copy_(part._values(integers(part)))
        return of_rows(self.layer, found).contiguous()

    def _values(self, integers: Tensor) -> Tensor:
        found = (integers - self.zero.double()) * self.scale.double()
        return found + 0.0  # without -0.0, which no integer gives

    def _with(self, change: Callable[[Tensor], Tensor]) -> Rounded:
        weight, scale, zero = map(change, (self.weight, self.scale, self.zero))
        return evolve(self, weight=weight, scale=scale, zero=zero)

    def _split(self, values: Tensor) -> Sequence[Tensor]:
        return values.chunk(math.ceil(self.weight.numel() / PART), 1)

    def _spread(self, values: Tensor) -> Tensor:
        times = self.weight.shape[2] // values.shape[2]
        return values.repeat_interleave(times, 2) if times > 1 else values


Integers: TypeAlias = Callable[[Rounded], Tensor]  # for the weights of some rows
Rounding: TypeAlias = Callable[[Rounded, Tensor], Integers]  # of a layer, by its Hessian


def size(node: Node) -> int:
    """Return the bytes of the moments of a node, 0 for a node without."""
    layer = layer_at(node)
    if layer is None or not _is_rounded(node):
        return 0
    columns = layer.weight.numel() // layer.outputs
    most = LARGEST_LINEAR if layer.weight.dim() == 2 else LARGEST
    return layer.groups * columns**2 * ITEM if columns <= most else 0


def update(value: Tensor | None, node: Node, inputs: Sequence[Tensor], _: Tensor) -> Tensor | None:
    """Add ``X^T X`` of the inputs of a layer, of shape (groups, columns, columns), in float32."""
    layer = layer_at(node)
    if layer is None or not size(node):
        return None
    with torch.no_grad():
        moments = torch.stack([_moments(layer, x) for x in _chunks(layer, inputs[0])]).sum(0)
    return moments if value is None else value.add_(moments)


def _moments(layer: Layer, x: Tensor) -> Tensor:
    read = columns(layer, x.detach().float())
    return read.transpose(1, 2) @ read


def _chunks(layer: Layer, x: Tensor) -> Iterator[Tensor]:
    """Yield parts of a batch whose patches are not too large."""
    kernel = layer.weight[0, 0].numel() if layer.weight.dim() > 2 else 1
    if kernel == 1 or x.dim() < layer.weight.dim():
        return iter([x])
    return iter(torch.split(x, max(1, CHUNK // (kernel * x[0].numel()))))


def rounded_anew(
    candidate: Candidate, calibration: Calibration, damping: float, rounding: Rounding
) -> Iterator[Change]:
    """Yield the weights of each layer, on the grid of its observer, as ``rounding`` says.

    It is called with a layer and its damped Hessian, and returns a function that is called with
    some rows of the layer at a time, and returns their integers in double precision.
    """
    moments = calibration.statistics["moments"]

    def change(each: Rounded) -> Change:
        integers = rounding(each, damped(moments[each.layer.name], damping))
        return Change(each.layer.name, constants={WEIGHT: each.values(integers)})

    with torch.no_grad():
        for each in rounded_layers(candidate):
            if each.layer.name in moments:
                yield calibration.once(each.layer.name, partial(change, each))


def rounded_layers(candidate: Candidate) -> Iterator[Rounded]:
    """Yield the layers whose weights may be rounded in another way, in order.

    Layers that are kept in float and weights that several operators read are left out.
    """
    for layer in layers(candidate.model):
        constant = constant_at(layer.node, WEIGHT)
        if layer.name in candidate.kept or not _is_rounded(layer.node) or constant is None:
            continue
        if _readers(constant) == 1:
            yield _rounded(candidate.model, layer)


def _is_rounded(node: Node) -> bool:
    given = argument(node, WEIGHT)
    return isinstance(given, Node) and given.op == "call_module"


def _readers(constant: Node) -> int:
    """Return how many operators read a constant, through observers and other nodes for it."""
    same = [node for node in constant.graph.nodes if node.target == constant.target]
    users = [user for node in same for user in node.users]
    return sum(len(user.users) if user.op == "call_module" else 1 for user in users)


def _rounded(model: GraphModule, layer: Layer) -> Rounded:
    observer: Any = model.get_submodule(str(layer.node.args[WEIGHT].target))  # type: ignore[union-attr]
    weight = layer.weight.detach()
    scale, zero = (_of_rows(layer, observer, each) for each in observer.calculate_qparams())
    return Rounded(
        layer,
        weight=rows(layer, weight),
        scale=scale,
        zero=zero,
        lowest=int(observer.quant_min),
        highest=int(observer.quant_max),
    )


def _of_rows(layer: Layer, observer: Any, qparams: Tensor) -> Tensor:
    """Return qparams for each weight, or for each group of a linear layer."""
    if hasattr(observer, "group_size"):
        return rows(layer, qparams)
    return rows(layer, spread(observer, qparams, layer.weight).expand_as(layer.weight))


def damped(moments: Tensor, damping: float) -> Tensor:
    """Return moments in double precision with a share of their mean added to the diagonal.

    A column that is always 0 in the inputs gets the mean as its moment, or 1 if all are 0.
    """
    found = moments.to(torch.float64, copy=True)
    diagonal = found.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    diagonal += torch.where(diagonal > 0, damping * mean, mean)
    return found
