"""Pins that a program is the same, byte for byte, for any number of processes that calibrate it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qreg


class Net(nn.Module):
    """Convolutions, then attention: shared qparams, fused activations, writes in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6(inplace=True)
        )
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = nn.functional.max_pool2d((self.depthwise(x) + x).relu_(), 2)
        x = torch.cat([x, x[:, :, :1]], 2).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.out((q @ k.transpose(1, 2)).softmax(-1) @ v)


def test_a_program_is_the_same_for_any_number_of_processes() -> None:
    torch.manual_seed(1)
    batches = [(scale * torch.randn(2, 3, 8, 8),) for scale in (1, 3, 0.5, 2, 1)]
    given = {"calibration": batches, "progress": False}
    programs = [
        qreg.quantize(Net().eval(), batches[0], workers=workers, **given).program
        for workers in (1, 2)
    ]
    assert programs[0] == programs[1]
