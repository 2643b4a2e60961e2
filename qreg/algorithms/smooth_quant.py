"""SmoothQuant: move the outlier channels of activations into weights, and out of sums.

Xiao et al., SmoothQuant: accurate and efficient post-training quantization for large language
models (2022), equation 4: channel j of an activation is divided by ``s_j = max|x_j|^a /
max|w_j|^(1-a)``, and the weights that read it are multiplied by ``s_j``. The division is moved into
the norm or the layer that produces the activation. The paper has one ``a`` for a model; here each
activation has the one with the least error of the layers that read it.

Operators that are kept in float read the activation multiplied by ``s_j`` again, in the graph:
nothing of them is changed.

An activation with outlier channels that goes into a sum, as in the residual stream of a
transformer, has no weights to move them to. See :mod:`qreg.algorithms.outliers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from qreg.algorithms.channels import Ranges, by_inputs, input_magnitudes
from qreg.algorithms.layers import INPUT, LINEAR, WEIGHT, Layer
from qreg.algorithms.outliers import outlier_changes, outlier_layers
from qreg.algorithms.rescaling import Rescaled, Source, Sources, reached, within
from qreg.algorithms.simulation import Walk, rounding
from qreg.graph.nodes import argument, called, is_node
from qreg.graph.prepared import OBSERVERS
from qreg.observers.fixed import with_range
from qreg.observers.layout import by_qparams
from qreg.plugins.types.algorithm import Calibration, Candidate, Change

ROWS = 512  # of an activation, to compare exponents on
TINY = torch.finfo(torch.float32).tiny
SMALLEST = 1e-5  # of a scale and of the ranges it is computed from, as in the authors' code


@frozen(eq=False)
class Group:
    """The linear layers that read one value, and the source of the value.

    ``others`` are the names of readers that are kept in float.
    """

    value: Node
    layers: tuple[Layer, ...]
    source: Source
    others: tuple[str, ...]


def applies(candidate: Candidate) -> str | None:
    """Return why no activation can be smoothed, or None if one can."""
    if any(_groups(candidate)) or any(outlier_layers(candidate)):
        return None
    return "no linear layer reads what a norm or another layer produces for linear layers alone"


def changes(
    candidate: Candidate, calibration: Calibration, *, alphas: Sequence[float], threshold: float
) -> Iterator[Change]:
    """Yield the constants of the layers and norms that are rescaled, and the rescaled outliers.

    ``alphas`` are the exponents to try. A channel whose range is more than ``threshold`` times the
    median of the channels is an outlier.
    """
    ranges: Mapping[str, Ranges] = calibration.statistics["channel_ranges"]
    groups = {each.value: each for each in _groups(candidate)}
    rescaled = Rescaled(candidate.reference)
    observed = {node.name: node for node in candidate.model.graph.nodes}
    with torch.no_grad():
        for node, values in Walk(Interpreter(candidate.reference), calibration.samples):
            group = groups.get(node)
            if group is None:
                continue
            trial = _Trial(candidate.model, observed, group, _rows(values), ranges)
            scale = trial.best(alphas)
            if scale is not None:
                rescaled.divide_source(group.source, scale)
                for layer in group.layers:
                    rescaled.multiply(layer.node, WEIGHT, by_inputs(layer, scale))
                if group.others:
                    yield Change(node.name, scale=scale, readers=group.others)
        yield from outlier_changes(candidate, ranges, rescaled, threshold)
        yield from rescaled.changes()


def _groups(candidate: Candidate) -> Iterator[Group]:
    """Yield the values that linear layers alone read, at least one of them quantized.

    Operators that are kept in float may read them, too.
    """
    sources = Sources(candidate)
    quantized = {each.node for each in candidate.decisions if each.quantized}
    inputs = (argument(node, INPUT) for node in sources.layers if called(node) == LINEAR)
    for value in dict.fromkeys(filter(is_node, inputs)):
        others = [user.name for user in value.users if user.name in candidate.kept]
        read = [sources.layers.get(user) for user in value.users if user.name not in others]
        linear = [each for each in read if each is not None and called(each.node) == LINEAR]
        alone = len(linear) == len(read) and all(each.node.args[0] is value for each in linear)
        if not alone or not any(each.name in quantized for each in linear):
            continue
        source = sources.of(value, -1)
        if source is not None:
            yield Group(value, tuple(linear), source, tuple(others))


def _rows(values: Sequence[Tensor]) -> Tensor:
    """Return some rows of an activation, of shape (rows, channels)."""
    rows = torch.cat([value.flatten(0, -2) for value in values])
    return rows[:: -(-len(rows) // ROWS)]


@frozen(eq=False)
class _Trial:
    """Compare exponents by the error of the layers with rounded inputs and weights."""

    model: GraphModule
    nodes: Mapping[str, Node]
    group: Group
    rows: Tensor
    ranges: Mapping[str, Ranges]

    def best(self, alphas: Sequence[float]) -> Tensor | None:
        """Return the scale with the least error, of shape (channels,), or None for no scale."""
        seen = self.ranges.get(self.group.layers[0].name)
        part = reached(self.group.source, self.ranges)
        if seen is None or part is None:
            return None
        largest = torch.maximum(seen.input_low.abs(), seen.input_high.abs())
        weights = torch.stack([input_magnitudes(e, e.weight) for e in self.group.layers]).amax(0)
        found: list[Tensor] = [torch.ones_like(largest)]
        found += [within(_scale(largest, weights, each), part) for each in alphas]
        errors = [self._error(each, seen) for each in found]
        best = min(range(len(found)), key=errors.__getitem__)
        return found[best] if best else None

    def _error(self, scale: Tensor, seen: Ranges) -> float:
        """Return the noise of the outputs divided by the signal, summed over the layers."""
        low, high = (seen.input_low / scale).min(), (seen.input_high / scale).max()
        total = 0.0
        for layer in self.group.layers:
            rows = self._rounded(layer, INPUT, self.rows / scale, (low, high))
            weight = layer.weight * scale
            weight = self._rounded(layer, WEIGHT, weight)
            wanted = self.rows @ layer.weight.T
            noise = (rows @ weight.T - wanted).square().sum()
            total += float(noise / wanted.square().sum().clamp(min=TINY))
        return total

    def _rounded(
        self, layer: Layer, position: int, value: Tensor, ends: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Round a value as the observer of an argument does with a range, or with the value's."""
        read: Any = self.nodes[layer.name].args[position]
        observer: Any = None
        if read.op == "call_module":
            observer = self.model.get_submodule(str(read.target))
        if not isinstance(observer, OBSERVERS):
            return value
        if getattr(observer, "is_dynamic", False):
            return rounding(observer)(value)
        low, high = by_qparams(observer, value).aminmax(dim=-1) if ends is None else ends
        return rounding(with_range(observer, low, high))(value)


def _scale(largest: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Return ``max|x_j|^alpha / max|w_j|^(1 - alpha)``; 1 where either maximum is 0."""
    scale = largest.clamp(min=SMALLEST) ** alpha / weights.clamp(min=SMALLEST) ** (1 - alpha)
    return torch.where((largest > 0) & (weights > 0), scale.clamp(min=SMALLEST), 1.0)
