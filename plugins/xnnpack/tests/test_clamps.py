"""Clamps in a row, alone and after operators that the delegate fuses them with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg_xnnpack.runtime import load

CLAMPED: dict[str, Callable[[Tensor], Tensor]] = {
    "two": lambda y: y.clamp(-1, 0.4).clamp(-0.2, 3),
    "the second beyond the first": lambda y: y.clamp(-0.2, 0.1).clamp(-2, 2),
    "relu and an upper bound": lambda y: y.relu().clamp(max=0.3),
    "a clamp and a relu": lambda y: y.clamp(-1, 0.2).relu(),
    "relu6 and hardtanh": lambda y: F.hardtanh(F.relu6(y), -1, 0.5),
    "three": lambda y: y.clamp(max=0.5).clamp_min(-0.3).clamp(-1, 0.2),
    "written in place": lambda y: y.relu_().clamp_(max=0.2),
    "the first read twice": lambda y: (lambda z: z.clamp(0.2, 3) + z)(y.clamp(-1, 0.3)),
    "nothing in common": lambda y: y.clamp(-1, 0).clamp(0.2, 3),
    "bounds that leave out 0": lambda y: y.clamp(0.1, 0.5),
    "downstream of two poolings": lambda y: F.max_pool2d(F.max_pool2d(y, 3, 1, 1), 2).clamp(
        min=0.1
    ),
    "crossed bounds": lambda y: y.clamp(0.5, 0.1),
    "crossed bounds, then a clamp": lambda y: y.clamp(0.5, 0.1).clamp(-1, 3),
}


class Clamps(nn.Module):
    """Every row of clamps on an input, and after a convolution, a linear layer and a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in CLAMPED)
        self.linears = nn.ModuleList(nn.Linear(8, 8) for _ in CLAMPED)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = []
        for clamp, conv, linear in zip(CLAMPED.values(), self.convs, self.linears, strict=True):
            found += [clamp(x * 1), clamp(conv(x)), clamp(linear(x)), clamp(x + x.flip(0))]
        return tuple(found)


def test_every_clamp_in_a_row_counts_in_float() -> None:
    model, x = Clamps().eval(), torch.randn(2, 4, 8, 8)
    got = load(qreg.lower(model, (x,)).program)([x])
    names = [name for name in CLAMPED for _ in range(4)]
    with torch.no_grad():
        wanted = model(x)
    for name, one, other in zip(names, wanted, got, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu().clamp(max=0.3).clamp(0.1, 4)).clamp(-0.3, 3).relu()


def test_every_clamp_in_a_row_counts_in_int8() -> None:
    model = Net().eval()
    batches = [(torch.randn(1, 3, 12, 12),) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, progress=False)
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 30
