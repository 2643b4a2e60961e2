"""A model of raw features, and what tests ask of its programs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import qreg

FEATURES = 12


class Tabular(nn.Module):
    """An MLP on raw features of several units, which its first layer normalises."""

    def __init__(self, decades: float = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
        )
        self.units = 10 ** (decades * torch.rand(FEATURES, generator=generator) - 2)
        first = self.layers[0]
        first.weight.data *= 2 / self.units
        first.bias.data -= first.weight.data @ (3 * self.units)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def features(seed: int = 1, count: int = 8, units: Tensor | None = None) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    units = Tabular().units if units is None else units
    return [(units * (3 + torch.randn(16, FEATURES, generator=generator)),) for _ in range(count)]


def quantize(model: nn.Module, batches: list[tuple[Tensor]], **options: Any) -> qreg.Result:
    return qreg.quantize(model.eval(), batches[0], calibration=batches, progress=False, **options)


def sqnr(model: nn.Module, result: qreg.Result, part: Any = ...) -> float:
    """The ratio of a part of the outputs in dB, computed from what the program gives."""
    with torch.no_grad():
        pairs = [(model(*each)[part], result.run(*each)[part]) for each in result.samples]
    signal = sum(float(wanted.square().sum()) for wanted, _ in pairs)
    noise = sum(float((wanted - got).square().sum()) for wanted, got in pairs)
    return 10 * math.log10(signal / noise)
