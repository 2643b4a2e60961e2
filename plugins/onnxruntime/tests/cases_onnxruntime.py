"""A module for each pattern of the table, between products where that is what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qreg_onnxruntime.config import supported_configs


def config_of(mode: str) -> str:
    """The config of a mode that is for this processor."""
    return next(config.name for config in supported_configs() if config.mode == mode)


class Call(nn.Module):
    """A module that is a function of its inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Times(nn.Module):
    """``x @ w``, or ``addmm`` with a bias, for a weight that lies as in GPT-2."""

    def __init__(self, function: Callable[..., Tensor], columns: int = 8) -> None:
        super().__init__()
        self.function = function
        self.weight, self.bias = nn.Parameter(torch.randn(16, columns)), torch.randn(columns)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.bias, x, self.weight)


IMAGE, ROW, TOKENS, SIGNAL = (1, 4, 8, 8), (3, 16), (2, 5, 16), (1, 4, 16)


def conv(inputs: int = 4, outputs: int = 4, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, **{"padding": 1, **options})


class Between(nn.Module):
    """A function of what one or two convolutions give, and a convolution that reads it."""

    def __init__(self, function: Callable[..., Tensor], *, branches: int = 1, outputs: int = 4):
        super().__init__()
        self.function = function
        self.before = nn.ModuleList(conv() for _ in range(branches))
        self.after = nn.Conv2d(outputs, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(*(each(x) for each in self.before)))


class Scores(nn.Module):
    """What tokens have to do with each other, as in attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.query(x) @ self.key(x).permute(0, 2, 1)


def flat(columns: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(columns, 4)]


def two(function: Callable[..., Tensor], outputs: int = 4) -> nn.Module:
    return Between(function, branches=2, outputs=outputs)


Case = tuple[nn.Module, tuple[tuple[int, ...], ...]]

# annotator -> a module in which it applies, and the shapes of its inputs
ROWS = torch.tensor([[1.0], [2.0], [-1.0]])

CASES: dict[str, Case] = {
    "conv": (conv(stride=2), (IMAGE,)),
    "conv without bias": (conv(bias=False), (IMAGE,)),
    "conv in groups": (conv(4, 8, groups=2), (IMAGE,)),
    "conv depthwise": (conv(4, 8, groups=4), (IMAGE,)),
    "conv dilated": (conv(dilation=2), (IMAGE,)),
    "conv with padding by name": (conv(padding="same"), (IMAGE,)),
    "conv with odd padding by name": (nn.Conv2d(4, 4, 2, padding="same"), (IMAGE,)),
    "conv in 1d": (nn.Conv1d(4, 8, 3), (SIGNAL,)),
    "conv in 3d": (nn.Conv3d(4, 8, 3), ((1, 4, 5, 5, 5),)),
    "conv with batch norm": (nn.Sequential(conv(), nn.BatchNorm2d(4)), (IMAGE,)),
    "conv_relu": (nn.Sequential(conv(), nn.ReLU()), (IMAGE,)),
    "conv_relu in place": (nn.Sequential(conv(), nn.ReLU(inplace=True)), (IMAGE,)),
    "conv_relu by a clamp": (nn.Sequential(conv(), nn.ReLU6()), (IMAGE,)),
    "conv_relu by hardtanh": (nn.Sequential(conv(), nn.Hardtanh(-0.25, 0.5)), (IMAGE,)),
    "conv_relu by clamp": (nn.Sequential(conv(), Call(lambda x: x.clamp(-0.25, 0.5))), (IMAGE,)),
    "conv_relu from below": (nn.Sequential(conv(), Call(lambda x: x.clamp(min=-0.1))), (IMAGE,)),
    "conv_relu by maximum": (
        nn.Sequential(conv(), Call(lambda x: torch.maximum(torch.tensor(-0.1), x))),
        (IMAGE,),
    ),
    "linear": (nn.Linear(16, 8), (ROW,)),
    "linear without bias": (nn.Linear(16, 8, bias=False), (ROW,)),
    "linear over tokens": (nn.Linear(16, 8), (TOKENS,)),
    "linear after a linear": (nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8)), (ROW,)),
    "linear_relu": (nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)), (ROW,)),
    "linear_relu over tokens": (
        nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)),
        (TOKENS,),
    ),
    "linear_relu by a clamp": (
        nn.Sequential(nn.Linear(16, 16), nn.ReLU6(), nn.Linear(16, 8)),
        (ROW,),
    ),
    "addmm": (Times(torch.addmm), (ROW,)),
    "addmm_relu": (
        nn.Sequential(Times(torch.addmm, 16), nn.ReLU(), Times(torch.addmm)),
        (ROW,),
    ),
    "addmm with a matrix as bias": (
        nn.Sequential(Times(lambda b, x, w: torch.addmm(ROWS * b, x, w), 16), Times(torch.addmm)),
        (ROW,),
    ),
    "addmm_relu by a clamp": (
        nn.Sequential(Times(torch.addmm, 16), nn.Hardtanh(), Times(torch.addmm)),
        (ROW,),
    ),
    "matmul_weight": (Times(lambda b, x, w: x @ w), (TOKENS,)),
    "matmul_weight by mm": (Times(lambda b, x, w: torch.mm(x, w)), (ROW,)),
    "matmul_weight_relu": (
        nn.Sequential(Times(lambda b, x, w: x @ w, 16), nn.ReLU(), nn.Linear(16, 4)),
        (TOKENS,),
    ),
    "matmul_weight_relu by a clamp": (
        nn.Sequential(Times(lambda b, x, w: x @ w, 16), nn.ReLU6(), nn.Linear(16, 4)),
        (TOKENS,),
    ),
    "matmul": (Call(torch.matmul), ((2, 5, 16), (2, 16, 5))),
    "matmul by bmm": (Call(lambda a, b: torch.bmm(torch.bmm(a, b), a)), ((2, 5, 16), (2, 16, 5))),
    "matmul of four dimensions": (
        Call(lambda a, b: (a @ b) @ a),
        ((2, 3, 5, 16), (2, 3, 16, 5)),
    ),
    "add": (two(torch.add), (IMAGE,)),
    "add to itself": (Between(lambda x: x + x), (IMAGE,)),
    "add of a scalar": (Between(lambda x: x + 1.5), (IMAGE,)),
    "add in place": (two(lambda x, y: x.add_(y)), (IMAGE,)),
    "add broadcast": (two(lambda x, y: x + y.mean((2, 3), keepdim=True)), (IMAGE,)),
    "add_relu": (two(lambda x, y: functional.relu(x + y)), (IMAGE,)),
    "add_relu by a clamp": (two(lambda x, y: functional.relu6(x + y)), (IMAGE,)),
    "mul": (two(torch.mul), (IMAGE,)),
    "mul by a scalar": (Between(lambda x: x * 0.25), (IMAGE,)),
    "mul_relu": (two(lambda x, y: functional.relu(x * y)), (IMAGE,)),
    "mul_relu by a clamp": (two(lambda x, y: functional.relu6(x * y)), (IMAGE,)),
    "cat": (two(lambda x, y: torch.cat([x, y], 1), 8), (IMAGE,)),
    "cat of sums": (two(lambda x, y: torch.cat([x + y, x * y, x], 1), 12), (IMAGE,)),
    "cat of a sum": (
        two(lambda x, y: torch.cat([y, x, y + 1], 1), 12),
        (IMAGE,),
    ),
    "adaptive_avg_pool2d": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), *flat(4)), (IMAGE,)),
    "mean": (nn.Sequential(conv(), Call(lambda x: x.mean((2, 3))), nn.Linear(4, 4)), (IMAGE,)),
    "mean that keeps its dimensions": (
        Between(lambda x: x.mean((-1, -2), keepdim=True)),
        (IMAGE,),
    ),
    "max_pool": (Between(lambda x: functional.max_pool2d(x, 3, 2, 1)), (IMAGE,)),
    "max_pool in ceil mode": (
        Between(lambda x: functional.max_pool2d(x, 3, ceil_mode=True)),
        (IMAGE,),
    ),
    "max_pool in 1d": (
        nn.Sequential(nn.Conv1d(4, 4, 3), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3)),
        (SIGNAL,),
    ),
    "sigmoid": (Between(torch.sigmoid), (IMAGE,)),
    "leaky_relu": (Between(lambda x: functional.leaky_relu(x, 0.2)), (IMAGE,)),
    "relu": (Between(lambda x: functional.relu(x.mean((2, 3), keepdim=True))), (IMAGE,)),
    "relu beside another reader": (
        Between(lambda x: torch.cat([x, functional.relu(x)], 1), outputs=8),
        (IMAGE,),
    ),
    "relu by a clamp": (Between(lambda x: x.transpose(2, 3).clamp(-0.2, 0.3)), (IMAGE,)),
    "view": (Between(lambda x: x.view(1, 4, 4, 16)), (IMAGE,)),
    "reshape": (Between(lambda x: x.reshape(1, 4, 16, 4)), (IMAGE,)),
    "flatten": (nn.Sequential(conv(), *flat(256)), (IMAGE,)),
    "permute of an image": (Between(lambda x: x.permute(0, 1, 3, 2)), (IMAGE,)),
    "permute": (Scores(), (TOKENS,)),
    "transpose": (Between(lambda x: x.transpose(2, 3)), (IMAGE,)),
    "squeeze": (
        nn.Sequential(
            conv(), nn.AdaptiveAvgPool2d(1), Call(lambda x: x.squeeze(-1).squeeze(-1))
        ).append(nn.Linear(4, 4)),
        (IMAGE,),
    ),
    "unsqueeze": (Between(lambda x: x[:, :, :, 0].unsqueeze(-1)), (IMAGE,)),
    "slice": (Between(lambda x: x[:, :, 1:7:2]), (IMAGE,)),
    "expand": (Between(lambda x: x.mean((2, 3), keepdim=True).expand(1, 4, 8, 8)), (IMAGE,)),
    "clone": (Between(lambda x: x.transpose(2, 3).contiguous()), (IMAGE,)),
    "upsample_nearest2d": (
        Between(lambda x: functional.interpolate(x, scale_factor=2.0)),
        (IMAGE,),
    ),
    "pixel_shuffle": (Between(lambda x: functional.pixel_shuffle(x, 2), outputs=1), (IMAGE,)),
}


class Together(nn.Module):
    """Modules that read the same inputs, for one program to hold them all."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(*(each.clone() for each in inputs)) for part in self.parts)
