"""A model with data, and the full pipeline on the toy backend."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import qreg
from qreg import Registry, Result


class Net(nn.Module):
    """A linear with a ReLU, and an add; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.fc(x).relu() + x


class TwoLinears(nn.Module):
    """Two linears, a tanh between them that no annotator knows, and an add."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh()) + x


WIDTHS = (4, 6, 8, 5, 3)  # of the inputs of the linears of Deep, and of the output


class Deep(nn.Module):
    """Four linears, each with a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        pairs = pairwise(WIDTHS)
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(*each), nn.ReLU()) for each in pairs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def batches(count: int = 4, *shape: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(shape or (8, 4)) for _ in range(count)]


X = torch.zeros(8, 4)


def quantize(registry: Registry, model: Any = None, example: Any = X, **options: Any) -> Result:
    options = {"backend": "toy", "calibration": batches(), "registry": registry, **options}
    return qreg.quantize(Net() if model is None else model, example, **options)
