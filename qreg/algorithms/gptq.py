"""GPTQ: round weights one column after another, and let the next columns make up for the error.

Frantar et al., GPTQ: accurate post-training quantization for generative pre-trained transformers
(2022), algorithm 1. With the Hessian ``H`` of the layer's inputs and ``U`` the upper Cholesky
factor of its inverse, rounding column ``j`` of the weights makes the error ``e = (w_j - q_j) /
U_jj``, and each following column becomes ``w_k - e U_jk``: the change that makes the squared error
of the output least (section 3). Columns are taken by decreasing ``H_jj``, as in the paper's
implementation (``--act-order``): those that matter most have the most columns left to make up for
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from qreg.algorithms.hessian import Integers, Rounded, rounded_anew
from qreg.plugins.types.algorithm import Calibration, Candidate, Change


def changes(
    candidate: Candidate, calibration: Calibration, *, damping: float, block: int
) -> Iterator[Change]:
    """Return the weights of each layer, on the grid of its observer.

    ``damping`` is the share of the mean of the Hessian's diagonal that is added to it. Columns that
    are more than ``block`` apart are changed in one product of matrices.
    """
    return rounded_anew(candidate, calibration, damping, partial(rounding, block=block))


def rounding(layer: Rounded, hessian: Tensor, block: int) -> Integers:
    """Return what rounds the rows of a layer.

    ``hessian`` is positive definite, of shape (groups, columns, columns).
    """
    order = hessian.diagonal(dim1=1, dim2=2).argsort(stable=True, dim=1, descending=True)
    hessian = _gathered(_gathered(hessian, order, 1), order, 2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    return partial(_integers, order=order, factor=factor, block=block)


def _integers(layer: Rounded, order: Tensor, factor: Tensor, block: int) -> Tensor:
    """Return the integers for some rows; columns are taken in the order of those of ``factor``."""
    weight, scale, zero = (
        _gathered(each, order, 2).double() for each in (layer.weight, layer.scale, layer.zero)
    )
    chosen = torch.empty_like(weight)
    for start in range(0, weight.shape[2], block):
        end = min(start + block, weight.shape[2])
        errors = torch.empty_like(weight[..., start:end])
        for j in range(start, end):
            w, step, at = weight[..., j], scale[..., j], zero[..., j]
            chosen[..., j] = (w / step + at).round_().clamp_(layer.lowest, layer.highest)
            error = (w - (chosen[..., j] - at) * step) / factor[:, j, j, None]
            weight[..., j:end] -= error[..., None] * factor[:, None, j, j:end]
            errors[..., j - start] = error
        weight[..., end:] -= errors @ factor[:, start:end, end:]
    return _gathered(chosen, order.argsort(1), 2)


def _gathered(values: Tensor, order: Tensor, axis: int) -> Tensor:
    """Return values in another order along an axis, which may differ between groups."""
    shape = [len(order), 1, 1]
    shape[axis] = -1
    return values.gather(axis, order.reshape(shape).expand_as(values))
