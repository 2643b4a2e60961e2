"""A module for each pattern of the table, between products where that is what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Call(nn.Module):
    """A module that is a function of its inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Times(nn.Module):
    """``x @ w``, or ``addmm`` with a bias, for a weight that lies as in GPT-2."""

    def __init__(
        self, function: Callable[..., Tensor], columns: int = 8, *, inputs: int = 16
    ) -> None:
        super().__init__()
        self.function = function
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, columns)), torch.randn(columns)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.bias, x, self.weight)


IMAGE, ROW, TOKENS, SIGNAL = (1, 4, 8, 8), (3, 16), (2, 5, 16), (1, 4, 16)


def conv(inputs: int = 4, outputs: int = 4, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, **{"padding": 1, **options})


def enlarging(inputs: int = 4, outputs: int = 8) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 2, 2)


class Between(nn.Module):
    """A function of what one or two convolutions give, and a convolution that reads it."""

    def __init__(self, function: Callable[..., Tensor], *, branches: int = 1, outputs: int = 4):
        super().__init__()
        self.function = function
        self.before = nn.ModuleList(conv() for _ in range(branches))
        self.after = nn.Conv2d(outputs, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(*(each(x) for each in self.before)))


class Joined(nn.Module):
    """What a layer makes of the values above 0 of one input, next to another input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([self.layer(x.relu()), y], 1)


class Attention(nn.Module):
    """A function of queries, keys and values of heads, and a layer that reads it."""

    def __init__(self, function: Callable[..., Tensor], heads: int = 2) -> None:
        super().__init__()
        self.function, self.split = function, (heads, 16 // heads)
        self.heads = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.output = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        split = (each(x).unflatten(-1, self.split).transpose(1, 2) for each in self.heads)
        return self.output(self.function(*split).transpose(1, 2).flatten(2))


def two(function: Callable[..., Tensor], outputs: int = 4) -> nn.Module:
    return Between(function, branches=2, outputs=outputs)


def behind(head: nn.Module, function: nn.Module, after: nn.Module) -> nn.Module:
    return nn.Sequential(head, function, after)


def equal_biases(*layers: nn.Module) -> nn.Module:
    """Layers whose biases have one value each, for which OpenVINO has a kernel that is wrong."""
    module = nn.Sequential(*layers)
    for number, layer in enumerate(each for each in layers if isinstance(each, nn.Linear)):
        nn.init.constant_(layer.bias, 0.1 * number)
    return module


def times(columns: int = 8) -> Times:
    return Times(lambda b, x, w: x @ w, columns)


Case = tuple[nn.Module, tuple[tuple[int, ...], ...]]

# annotator -> a module in which it applies, and the shapes of its inputs
CASES: dict[str, Case] = {
    "conv": (conv(stride=2), (IMAGE,)),
    "conv without bias": (conv(bias=False), (IMAGE,)),
    "conv in groups": (conv(4, 8, groups=2), (IMAGE,)),
    "conv depthwise": (conv(4, 8, groups=4), (IMAGE,)),
    "conv of one channel": (nn.Sequential(conv(4, 1), conv(1, 4)), (IMAGE,)),
    "conv of a signal of one channel": (nn.Conv1d(1, 8, 9, 2), ((2, 1, 32),)),
    "conv dilated": (conv(dilation=2), (IMAGE,)),
    "conv with odd padding by name": (nn.Conv2d(4, 4, 2, padding="same"), (IMAGE,)),
    "conv in 1d": (nn.Conv1d(4, 8, 3), (SIGNAL,)),
    "conv in 3d": (nn.Conv3d(4, 8, 3), ((1, 4, 5, 5, 5),)),
    "conv with batch norm": (nn.Sequential(conv(), nn.BatchNorm2d(4)), (IMAGE,)),
    "conv_act": (behind(conv(), nn.ReLU(), conv()), (IMAGE,)),
    "conv_act in place": (behind(conv(), nn.ReLU(inplace=True), conv()), (IMAGE,)),
    "conv_act by relu6": (behind(conv(), nn.ReLU6(), conv()), (IMAGE,)),
    "conv_act by hardtanh": (behind(conv(), nn.Hardtanh(-0.25, 0.5), conv()), (IMAGE,)),
    "conv_act by clamp": (Between(lambda x: x.clamp(-0.25, 0.5)), (IMAGE,)),
    "conv_act from below": (Between(lambda x: x.clamp(min=-0.25)), (IMAGE,)),
    "conv_act from above": (Between(lambda x: x.clamp_max(0.3)), (IMAGE,)),
    "conv_act by maximum": (Between(lambda x: torch.maximum(x, torch.tensor(0.1))), (IMAGE,)),
    "conv_act by tensors": (Between(lambda x: x.clamp(max=torch.full((4, 1, 1), 0.2))), (IMAGE,)),
    "conv_act up to infinity": (
        behind(conv(), nn.Hardtanh(-0.25, float("inf")), conv()),
        (IMAGE,),
    ),
    "conv_act by gelu": (behind(conv(), nn.GELU(), conv()), (IMAGE,)),
    "conv_act by silu": (behind(conv(), nn.SiLU(), conv()), (IMAGE,)),
    "conv_act by sigmoid": (behind(conv(), nn.Sigmoid(), conv()), (IMAGE,)),
    "conv_act by tanh": (behind(conv(), nn.Tanh(), conv()), (IMAGE,)),
    "conv_act by hardswish": (behind(conv(), nn.Hardswish(), conv()), (IMAGE,)),
    "conv_act by hardsigmoid": (behind(conv(), nn.Hardsigmoid(), conv()), (IMAGE,)),
    "conv_act by leaky_relu": (behind(conv(), nn.LeakyReLU(0.2), conv()), (IMAGE,)),
    "conv_act by elu": (behind(conv(), nn.ELU(), conv()), (IMAGE,)),
    "conv_transpose": (nn.ConvTranspose2d(4, 8, 3, 2, 1, 1), (IMAGE,)),
    "conv_transpose without bias": (nn.ConvTranspose2d(4, 8, 2, 2, bias=False), (IMAGE,)),
    "conv_transpose of values from 0": (behind(conv(), nn.ReLU(), enlarging()), (IMAGE,)),
    "conv_transpose of values of both signs": (behind(conv(), nn.Tanh(), enlarging()), (IMAGE,)),
    "conv_transpose in 1d": (nn.ConvTranspose1d(4, 8, 4, 2, 1), (SIGNAL,)),
    "conv_transpose in 3d": (nn.ConvTranspose3d(4, 8, 3, 2), ((1, 4, 5, 5, 5),)),
    "conv_transpose and cat": (
        Between(Joined(nn.ConvTranspose2d(4, 6, 3, 1, 1)), branches=2, outputs=10),
        (IMAGE,),
    ),
    "conv_transpose_act": (behind(enlarging(), nn.ReLU(), conv(8)), (IMAGE,)),
    "conv_transpose_act by leaky_relu": (behind(enlarging(), nn.LeakyReLU(), conv(8)), (IMAGE,)),
    "conv_transpose_act by silu": (behind(enlarging(), nn.SiLU(), conv(8)), (IMAGE,)),
    "conv_transpose_act twice": (
        nn.Sequential(enlarging(), nn.GELU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.ReLU(), conv()),
        (IMAGE,),
    ),
    "attention": (Attention(functional.scaled_dot_product_attention), (TOKENS,)),
    "matmul": (Call(lambda x, y: x @ y), ((2, 5, 16), (2, 16, 5))),
    "linear": (nn.Linear(16, 8), (ROW,)),
    "linear without bias": (nn.Linear(16, 8, bias=False), (ROW,)),
    "linear over tokens": (nn.Linear(16, 8), (TOKENS,)),
    "linear after a linear": (nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8)), (ROW,)),
    "linear_act": (behind(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)), (ROW,)),
    "linear_act over tokens": (behind(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)), (TOKENS,)),
    "linear_act by relu6": (behind(nn.Linear(16, 16), nn.ReLU6(), nn.Linear(16, 8)), (ROW,)),
    "linear_act by gelu": (behind(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 8)), (TOKENS,)),
    "linear_act by silu": (behind(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 8)), (ROW,)),
    "linear_act by tanh": (behind(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 8)), (ROW,)),
    "linear_act by hardswish": (
        behind(nn.Linear(16, 16), nn.Hardswish(), nn.Linear(16, 8)),
        (ROW,),
    ),
    "linear_act from below": (
        behind(nn.Linear(16, 16), Call(lambda x: x.clamp(min=-0.2)), nn.Linear(16, 8)),
        (ROW,),
    ),
    "linear_act with equal biases": (
        equal_biases(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8)),
        (ROW,),
    ),
    "addmm with a bias of one number": (
        nn.Sequential(Times(lambda b, x, w: torch.addmm(b[:1], x, w)), nn.Linear(8, 4)),
        (ROW,),
    ),
    "addmm": (Times(torch.addmm), (ROW,)),
    "addmm_act": (behind(Times(torch.addmm, 16), nn.ReLU(), Times(torch.addmm)), (ROW,)),
    "matmul_weight": (times(), (TOKENS,)),
    "matmul_weight by mm": (Times(lambda b, x, w: torch.mm(x, w)), (ROW,)),
    "matmul_weight_act": (behind(times(16), nn.ReLU(), nn.Linear(16, 4)), (TOKENS,)),
    "cat": (two(lambda x, y: torch.cat([x, y], 1), 8), (IMAGE,)),
    "avg_pool": (Between(lambda x: functional.avg_pool2d(x, 3, 2)), (IMAGE,)),
    "avg_pool without its padding": (
        Between(lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
        (IMAGE,),
    ),
    "adaptive_avg_pool2d": (
        nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)),
        (IMAGE,),
    ),
    "mean": (nn.Sequential(conv(), Call(lambda x: x.mean((2, 3))), nn.Linear(4, 4)), (IMAGE,)),
    "mean that keeps its dimensions": (
        Between(lambda x: x.mean((-1, -2), keepdim=True)),
        (IMAGE,),
    ),
    "max_pool": (Between(lambda x: functional.max_pool2d(x, 3, 2, 1)), (IMAGE,)),
    "max_pool in 1d": (
        nn.Sequential(nn.Conv1d(4, 4, 3), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3)),
        (SIGNAL,),
    ),
    "view": (Between(lambda x: x.view(1, 4, 4, 16)), (IMAGE,)),
    "view by flatten": (nn.Sequential(conv(), nn.Flatten(), nn.Linear(256, 4)), (IMAGE,)),
    "view by squeeze": (
        nn.Sequential(
            conv(), nn.AdaptiveAvgPool2d(1), Call(lambda x: x.squeeze(-1).squeeze(-1))
        ).append(nn.Linear(4, 4)),
        (IMAGE,),
    ),
    "permute": (Between(lambda x: x.permute(0, 1, 3, 2)), (IMAGE,)),
    "permute by transpose": (Between(lambda x: x.transpose(2, 3)), (IMAGE,)),
    "slice": (Between(lambda x: x[:, :, 1:7:2]), (IMAGE,)),
    "clone": (Between(lambda x: x.transpose(2, 3).contiguous()), (IMAGE,)),
    "upsample_nearest2d": (
        Between(lambda x: functional.interpolate(x, scale_factor=2.0)),
        (IMAGE,),
    ),
    "pixel_shuffle": (
        nn.Sequential(conv(4, 8), nn.PixelShuffle(2), nn.Conv2d(2, 4, 1)),
        (IMAGE,),
    ),
}
