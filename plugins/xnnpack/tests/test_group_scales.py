"""The converted model has the scales of groups that the program stores."""

from __future__ import annotations

import torch
from torch import nn

import qreg


def test_weights_in_groups_are_those_of_the_program() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 64), nn.Tanh()).eval(), torch.randn(5, 64)
    result = qreg.quantize(model, (x,), config="int4_dynamic_groupwise", progress=False)
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 100
