"""Equalization across layers: factors that give a value's channels alike ranges.

Nagel et al., Data-free quantization through weight equalization and bias correction (2019): for two
layers with a ReLU or nothing between them, sections 4.1.1 and 4.1.2 divide channel i of the first
by ``s_i = sqrt(r1_i r2_i) / r2_i``, where ``r1_i`` and ``r2_i`` are the largest magnitudes of the
weights that produce and that read the channel, and multiply the weights that read it by ``s_i``.
This is repeated over chains of layers. Section 4.1.3 absorbs high biases: ``c_i``, the part of a
channel that is always above zero, moves from the bias of the first layer into that of the second.
The paper estimates it from a batch norm; here it is the lowest value in the calibration data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from attrs import define, field
from torch import Tensor

from qreg.algorithms.channels import (
    Ranges,
    by_inputs,
    constant_response,
    input_magnitudes,
    output_magnitudes,
)
from qreg.algorithms.layers import BIAS, INPUT, WEIGHT, Layer
from qreg.algorithms.rescaling import Rescaled, Source, Sources, reached, within
from qreg.graph.nodes import argument, is_node, sole_user
from qreg.plugins.types.algorithm import Calibration, Candidate, Change

ROUNDS = 20
ENOUGH = 1e-3  # a round that moves no scale by more is the last
LARGEST = 1e4  # of a factor, and 1 / LARGEST is the smallest


@define(eq=False)
class Pair:
    """Two layers, of which the second alone reads the first.

    ``scale`` has the product of the factors so far, of shape (channels,).
    """

    first: Layer
    second: Layer
    source: Source
    part: Tensor
    scale: Tensor = field(factory=lambda: torch.ones(()))


def applies(candidate: Candidate) -> str | None:
    """Return why no layer can be equalized, or None if one can."""
    if any(_pairs(candidate)):
        return None
    return "no two layers follow each other with a ReLU or nothing between them"


def changes(candidate: Candidate, calibration: Calibration) -> Iterator[Change]:
    """Yield the weights and biases of each layer that is equalized."""
    ranges: Mapping[str, Ranges] = calibration.statistics["channel_ranges"]
    rescaled = Rescaled(candidate.reference)
    pairs = [
        Pair(source.layer, second, source, part)
        for source, second in _pairs(candidate)
        if source.layer is not None and (part := reached(source, ranges)) is not None
    ]
    with torch.no_grad():
        for _ in range(ROUNDS):
            moved = [_equalize(pair, rescaled) for pair in pairs]
            if max(moved, default=0.0) < ENOUGH:
                break
        for pair in pairs:
            _absorb(pair, rescaled, ranges.get(pair.first.name))
        yield from rescaled.changes()


def _pairs(candidate: Candidate) -> Iterator[tuple[Source, Layer]]:
    """Yield layers with the source of what they alone read, where it is another layer."""
    sources = Sources(candidate)
    quantized = {each.node for each in candidate.decisions if each.quantized}
    for second in sources.layers.values():
        value = argument(second.node, INPUT)
        if not is_node(value) or sole_user(value) is not second.node:
            continue
        source = sources.of(value, value.meta["val"].dim() + second.channels)
        if source is None or source.layer is None or not quantized & _names(source, second):
            continue
        if all(place.node is source.layer.node for place in source.places):
            yield source, second


def _names(source: Source, second: Layer) -> set[str]:
    first: Any = source.layer
    return {first.name, second.name}


def _equalize(pair: Pair, rescaled: Rescaled) -> float:
    """Equalize two layers, and return the largest logarithm of a factor."""
    one = output_magnitudes(pair.first, rescaled[pair.first.node, WEIGHT])
    other = input_magnitudes(pair.second, rescaled[pair.second.node, WEIGHT])
    factors = torch.sqrt(one * other) / other
    factors = torch.where((one > 0) & (other > 0), factors, 1.0)
    total = (pair.scale * factors).clamp(1 / LARGEST, LARGEST)
    total = within(total, pair.part)
    factors, pair.scale = total / pair.scale, total
    rescaled.divide_source(pair.source, factors)
    rescaled.multiply(pair.second.node, WEIGHT, by_inputs(pair.second, factors))
    return float(factors.log().abs().max())


def _absorb(pair: Pair, rescaled: Rescaled, ranges: Ranges | None) -> None:
    """Move what is always above zero from the bias of the first layer to that of the second."""
    if ranges is None or pair.first.bias is None or pair.second.bias is None:
        return
    if not pair.source.commutes_with_shifts or not _is_unpadded(pair.second):
        return
    shift = torch.where(pair.part < 1, (ranges.low / pair.scale).clamp(min=0), 0.0)
    if not shift.any():
        return
    one, other = (pair.first.node, BIAS), (pair.second.node, BIAS)
    rescaled[one] = rescaled[one] - shift
    weight = rescaled[pair.second.node, WEIGHT]
    rescaled[other] = rescaled[other] + constant_response(pair.second, weight, shift)


def _is_unpadded(layer: Layer) -> bool:
    """Whether each output sums over a whole kernel."""
    if layer.channels == -1:
        return True
    padding: Any = argument(layer.node, 4)
    return layer.axis == 0 and not any(padding or ())
