"""The largest and least values along dimensions are right in front of what quantizes them."""

from __future__ import annotations

from typing import Any

import torch
from chains import Side
from kinds import Apply
from torch import nn

import qreg

EXTREMES: tuple[Any, ...] = (
    lambda x: x.amax(-1),
    lambda x: x.amin(-1),
    lambda x: x.amax(1).tanh(),
    lambda x: x.max(-1)[0],
    lambda x: x.min(1, keepdim=True)[0].relu(),
    lambda x: x.amax((2, 3), keepdim=True).expand(-1, -1, 8, 8),
)


def test_extremes_are_not_cut_to_integers() -> None:
    torch.manual_seed(0)
    model = Side([nn.Sequential(Apply(each), nn.Linear(8, 8)) for each in EXTREMES]).eval()
    batches = [tuple(torch.randn(1, 4, 8, 8) + 0.5 for _ in EXTREMES) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_converted) > 60
    assert min(each.sqnr for each in result.verification.to_float) > 30
