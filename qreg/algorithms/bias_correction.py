"""Bias correction: add to each bias what quantization takes from the mean of the output.

Rounding weights and activations shifts the mean of each output channel, ``E[y] - E[q(y)]``, which
the layers downstream amplify. Nagel et al., Data-free quantization through weight equalization and
bias correction (2019), section 4.2, add the shift to the bias; with data it is measured, layer
after layer, so that each layer corrects what the corrected layers upstream leave. A
difference that varies from batch to batch is not a shift of the mean, and correcting it makes the
outputs for other inputs worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.fx import Interpreter

from qreg.algorithms.layers import BIAS, Layer, layers
from qreg.algorithms.simulation import Simulation, Walk
from qreg.plugins.types.algorithm import Calibration, Candidate, Change


def changes(
    candidate: Candidate, calibration: Calibration, *, threshold: float, shrink: bool
) -> Iterator[Change]:
    """Yield the corrected bias of each layer that computes with rounded values.

    A layer without a bias gets one. A shift of more than ``threshold`` times the largest bias and
    output of the layer is not corrected, as in NNCF: it is a fault of another kind. ``shrink``
    corrects the share of the shift that the batches agree on.
    """
    corrected = {each.name: each for each in layers(candidate.model) if _is_rounded(each)}
    corrected = {name: each for name, each in corrected.items() if name not in candidate.kept}
    with torch.no_grad():
        wanted = _means(candidate, calibration, corrected)
        walk = Walk(Simulation(candidate.model), calibration.samples)
        for node, values in walk:
            layer = corrected.get(node.name)
            if layer is None:
                continue
            shifts = wanted[node.name] - _mean(layer, values)
            shift = shifts.mean(0) * (_certainty(shifts) if shrink else 1)
            if not _is_plausible(layer, shift, wanted[node.name].mean(0), threshold):
                continue
            moved = shift.to(layer.weight.dtype)
            walk.replace(node, [v + layer.along_channels(moved, v) for v in values])
            bias = torch.zeros_like(moved) if layer.bias is None else layer.bias.detach()
            yield Change(node.name, constants={BIAS: bias + moved})


def _is_rounded(layer: Layer) -> bool:
    """Whether an observer rounds the weight of a layer."""
    return any(each.op == "call_module" for each in layer.node.all_input_nodes)


def _means(
    candidate: Candidate, calibration: Calibration, corrected: Mapping[str, Layer]
) -> dict[str, Tensor]:
    """Return the means of the output channels in float, by the name of the layer."""
    walk = Walk(Interpreter(candidate.reference), calibration.samples)
    return {
        node.name: _mean(corrected[node.name], values)
        for node, values in walk
        if node.name in corrected
    }


def _mean(layer: Layer, values: list[Tensor]) -> Tensor:
    """Return the mean of each batch and channel, of shape (batches, channels)."""
    return torch.stack([layer.sums(each) * layer.outputs / each.numel() for each in values])


def _certainty(shifts: Tensor) -> Tensor:
    """Return how much of the mean shift of a layer is not by chance, between 0 and 1.

    ``shifts`` has the shape (batches, channels). With the standard error ``se`` of the mean over
    the batches, ``1 - sum(se**2) / sum(shift**2)`` is the positive-part estimator of James and
    Stein (Efron and Morris, 1973). A single batch has no standard error.
    """
    if len(shifts) == 1:
        return torch.ones((), dtype=shifts.dtype)
    error = (shifts.var(0) / len(shifts)).sum()
    size = shifts.mean(0).square().sum()
    return (1 - error / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(min=0)


def _is_plausible(layer: Layer, shift: Tensor, mean: Tensor, threshold: float) -> bool:
    size = mean.abs().max() if layer.bias is None else layer.bias.detach().abs().max()
    return bool(shift.abs().max() <= threshold * size.clamp(min=torch.finfo(torch.float32).tiny))
