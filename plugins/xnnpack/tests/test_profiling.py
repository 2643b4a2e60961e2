"""Each operator is timed by itself, in int8 and in float, under the name of its decision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qreg


class Net(nn.Module):
    """A heavy linear, a light one after a relu, and a softmax that stays in float."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heavy, self.light = nn.Linear(512, 1024), nn.Linear(1024, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.light(self.heavy(x).relu()).softmax(-1)


def test_every_operator_has_its_time_and_the_heavy_one_takes_the_most() -> None:
    batches = [(torch.randn(64, 512),) for _ in range(2)]
    report = qreg.explain(Net(), batches[0], calibration=batches, profile=True, progress=False)
    found = {each.name: each for each in report.operators}
    for name in ("linear", "linear_1", "softmax"):
        assert found[name].microseconds > 0
        assert found[name].float_microseconds > 0
    assert found["relu"].microseconds is None  # fused, and timed with the linear
    assert found["linear"].microseconds > found["softmax"].microseconds
    assert found["linear"].float_microseconds > found["linear_1"].float_microseconds
