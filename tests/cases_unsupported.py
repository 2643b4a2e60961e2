"""Models with operators that runtimes have no kernel for, and the same in operators that they have.

Each pair is called on a convolved image; the second function is what the error advises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

EDGES = torch.tensor([-1.0, 0.0, 1.0])
WINDOW = torch.hann_window(16)
EYE = torch.eye(8)


class Convolved(nn.Module):
    """A convolution, and a function of its result."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.conv = function, nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def fmin(y: Tensor) -> Tensor:
    return torch.fmin(y, y * 0.5 + 0.1)


def copysign(y: Tensor) -> Tensor:
    return torch.copysign(y, y * 0.5 - 0.1)


def bucketize(y: Tensor) -> Tensor:
    return torch.bucketize(y, EDGES).float()


def searchsorted(y: Tensor) -> Tensor:
    return torch.searchsorted(EDGES, y).float()


def adaptive_max_pool(y: Tensor) -> Tensor:
    return nn.functional.adaptive_max_pool2d(y, 4)


def global_max_pool(y: Tensor) -> Tensor:
    return nn.functional.adaptive_max_pool2d(y, 1).flatten(1)


def diagonal(y: Tensor) -> Tensor:
    return y.diagonal(dim1=-2, dim2=-1) + 0.0


def written_diagonal(y: Tensor) -> Tensor:
    y = y.clone()
    y.diagonal(dim1=-2, dim2=-1).fill_(0.5)
    return y


def stft(y: Tensor) -> Tensor:
    found = torch.stft(y.flatten(1), 16, 8, window=WINDOW, center=False, return_complex=True)
    return found.abs()


def stft_by_products(y: Tensor) -> Tensor:
    steps = torch.arange(16.0)
    angles = 2 * math.pi / 16 * torch.arange(9.0)[:, None] * steps
    weight = torch.cat([angles.cos(), -angles.sin()])[:, None] * WINDOW
    parts = nn.functional.conv1d(y.flatten(1)[:, None], weight, stride=8)
    return (parts[:, :9].square() + parts[:, 9:].square()).sqrt()


def erfinv(y: Tensor) -> Tensor:
    return torch.erfinv(torch.tanh(y))


REPLACED = {
    "fmin": (fmin, lambda y: torch.minimum(y, y * 0.5 + 0.1)),
    "fmax": (
        lambda y: torch.fmax(y, y * 0.5 + 0.1),
        lambda y: torch.maximum(y, y * 0.5 + 0.1),
    ),
    "copysign": (copysign, lambda y: torch.where(y * 0.5 - 0.1 < 0, -y.abs(), y.abs())),
    "bucketize": (bucketize, lambda y: (y.unsqueeze(-1) > EDGES).sum(-1).float()),
    "searchsorted": (searchsorted, lambda y: (y.unsqueeze(-1) > EDGES).sum(-1).float()),
    "adaptive_max_pool2d": (adaptive_max_pool, lambda y: nn.functional.max_pool2d(y, 2)),
    "adaptive_max_pool2d of size 1": (global_max_pool, lambda y: y.amax((-2, -1))),
    "diagonal": (diagonal, lambda y: (y * EYE).sum(-1)),
    "diagonal_scatter": (
        written_diagonal,
        lambda y: torch.where(torch.eye(8, dtype=torch.bool), torch.tensor(0.5), y),
    ),
    "stft": (stft, stft_by_products),
}
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
