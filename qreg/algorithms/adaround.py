"""AdaRound: learn for each weight whether it is rounded down or up.

Nagel et al., Up or down? Adaptive rounding for post-training quantization (2020). Each weight is
``floor(w / s) + h(v)`` with ``h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)`` (equation 23); ``v`` makes
the squared error of the layer's output plus ``lambda sum(1 - |2 h(v) - 1|^beta)`` (equation 24)
least, where ``beta`` falls from 20 to 2 so that ``h(v)`` ends at 0 or 1. The error is that of the
layer alone (equation 20), which needs only the second moments of its inputs, not the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from qreg.algorithms.hessian import Integers, Rounded, rounded_anew
from qreg.plugins.types.algorithm import Calibration, Candidate, Change

ZETA, GAMMA = 1.1, -0.1  # the range of the stretched sigmoid
WARM_UP = 0.2  # the share of the steps without the regularizer, as in the paper's implementation
FIRST_BETA, LAST_BETA = 20.0, 2.0
RATE = 0.03  # of Adam
WEIGHT_OF_REGULARIZER = 1.0  # lambda, for errors as _normalized scales them


def changes(
    candidate: Candidate, calibration: Calibration, *, steps: int, damping: float
) -> Iterator[Change]:
    """Return the weights of each layer, on the grid of its observer, after ``steps`` steps each."""
    return rounded_anew(candidate, calibration, damping, partial(rounding, steps=steps))


def rounding(layer: Rounded, hessian: Tensor, steps: int) -> Integers:
    """Return what rounds each weight of some rows of a layer down or up, which rows do alone."""
    metric = _normalized(layer, hessian)
    return partial(_integers, hessian=hessian, metric=metric, steps=steps)


def _integers(layer: Rounded, hessian: Tensor, metric: Tensor, steps: int) -> Tensor:
    layer = layer.double()
    exact = layer.integers()
    floor = exact.floor()
    rest, unit = (exact - floor).float(), layer.scale.float()
    v = torch.logit((rest - GAMMA) / (ZETA - GAMMA))
    optimizer = torch.optim.Adam([v], lr=RATE)
    for step in range(steps):
        up = _rectified(v)
        off = (up - rest) * unit
        v.grad = (2 * (off @ metric) * unit + _pull(up, step / steps)) * _slope(v, up)
        optimizer.step()
    best = _better(layer, floor + (_rectified(v) >= 0.5), exact.round(), hessian)
    return best.clamp(layer.lowest, layer.highest)


def _rectified(v: Tensor) -> Tensor:
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def _slope(v: Tensor, up: Tensor) -> Tensor:
    """Return the derivative of ``_rectified`` at ``v``, where it is ``up``."""
    share = torch.sigmoid(v)
    return (ZETA - GAMMA) * share * (1 - share) * ((up > 0) & (up < 1))


def _normalized(layer: Rounded, hessian: Tensor) -> Tensor:
    """Return a metric in which a weight that is half a step off costs 1 on average.

    The regularizer then has one weight for layers of all sizes.
    """
    squares = [part.scale.double().square().sum(1) for part in layer.parts()]
    rows = layer.weight.shape[1]
    costs = torch.stack(squares).sum(0) / rows * hessian.diagonal(dim1=1, dim2=2)
    return (4 * hessian / costs.mean(1)[:, None, None]).float()


def _pull(up: Tensor, progress: float) -> Tensor:
    """Return the gradient of the regularizer, which is 0 while warming up."""
    if progress < WARM_UP:
        return torch.zeros_like(up)
    at = (progress - WARM_UP) / (1 - WARM_UP)
    beta = LAST_BETA + (FIRST_BETA - LAST_BETA) * 0.5 * (1 + math.cos(math.pi * at))
    centred = 2 * up - 1
    slope = beta * centred.abs() ** (beta - 1) * centred.sign()
    return -2 * WEIGHT_OF_REGULARIZER * slope


def _better(layer: Rounded, learned: Tensor, nearest: Tensor, hessian: Tensor) -> Tensor:
    """Return, for each row, the learned integers or the nearest, by the error of the output."""
    errors = [_error(layer, each, hessian) for each in (learned, nearest)]
    return torch.where((errors[0] < errors[1])[..., None], learned, nearest)


def _error(layer: Rounded, chosen: Tensor, hessian: Tensor) -> Tensor:
    clamped = chosen.clamp(layer.lowest, layer.highest)
    off = layer.weight - (clamped - layer.zero) * layer.scale
    return ((off @ hessian) * off).sum(2)
