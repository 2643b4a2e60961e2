"""Models that are put together in odd ways, with the shapes of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rows import Call
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE, ROW = (1, 4, 8, 8), (2, 8)


def parameter(*shape: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * scale)


class With(Call):
    """A function of a module with parameters ``p`` and ``q``, and a convolution and a linear."""

    def __init__(self, function: Callable[..., Any], p: Any = None, q: Any = None) -> None:
        super().__init__(function)
        self.p, self.q = p, q
        self.conv, self.linear = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 8)


def standardized(weight: Tensor) -> Tensor:
    return (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)


def _tripled(y: Tensor) -> Tensor:
    y[:, :4].mul_(3)
    return y


MODELS: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...]]] = {
    "a weight that is computed": (With(lambda m, x: F.linear(x, m.p * 2), parameter(4, 8)), (ROW,)),
    "a weight that is standardized": (
        With(lambda m, x: F.conv2d(x, standardized(m.p)), parameter(4, 4, 3, 3)),
        (IMAGE,),
    ),
    "a weight with a low-rank update": (
        With(
            lambda m, x: F.linear(x, m.linear.weight + m.p @ m.q), parameter(8, 2), parameter(2, 8)
        ),
        (ROW,),
    ),
    "a weight for two kinds of convolution": (
        With(lambda m, x: F.conv_transpose2d(F.conv2d(x, m.p), m.p), parameter(4, 4, 3, 3)),
        (IMAGE,),
    ),
    "addmm twice with one bias": (
        With(
            lambda m, x, y: (torch.addmm(m.q, x, m.p), torch.addmm(m.q, y * 50, m.p)),
            parameter(8, 4),
            parameter(4),
        ),
        (ROW, ROW),
    ),
    "a pad before a convolution": (With(lambda m, x: m.conv(F.pad(x, (1, 1, 1, 1)))), (IMAGE,)),
    "a conversion to the type it has between products": (
        With(lambda m, x: (x * 0.5).to(x.dtype) * m.p, parameter(8)),
        ((2, 8, 8),),
    ),
    "a pad by nothing before a convolution": (
        With(lambda m, x: m.conv(F.pad(x, (0, 0, 0, 0)))),
        (IMAGE,),
    ),
    "a pad with two users": (
        With(lambda m, x: (lambda padded: m.conv(padded) + padded)(F.pad(x, (1, 1, 1, 1)))),
        (IMAGE,),
    ),
    "a pad before a transposed convolution": (
        nn.Sequential(nn.ZeroPad2d(1), nn.ConvTranspose2d(4, 4, 3)),
        (IMAGE,),
    ),
    "clamps that leave out 0": (
        With(
            lambda m, x: (lambda y: (y.clamp(min=0.1) * 2, m.conv(y.clamp(-0.9, -0.1))))(
                F.max_pool2d(m.conv(x), 2)
            )
        ),
        (IMAGE,),
    ),
    "a softmax over the width downstream of a prelu and of a maximum over the channels": (
        With(
            lambda m, x: (
                (F.prelu(x, m.p) * 1.5).softmax(-1),
                (m.conv(x) + x.max(1, keepdim=True)[0]).softmax(-1),
            ),
            nn.Parameter(torch.tensor([0.25])),
        ),
        (IMAGE,),
    ),
    "indices that are computed": (
        With(
            lambda m, x: (
                F.interpolate(m.conv(x), scale_factor=2, mode="nearest-exact") * 2,
                m.linear(m.p[(x[0, 0, :, 0].sigmoid() * 15 + 0.2).long()]),
            ),
            parameter(16, 8),
        ),
        (IMAGE,),
    ),
    "padding by a word, and no stride": (
        With(lambda m, x: F.conv2d(m.conv(x), m.p, padding="valid"), parameter(4, 4, 3, 3)),
        (IMAGE,),
    ),
    "one stride for two dimensions": (
        With(
            lambda m, x: torch.ops.aten.conv2d.default(m.conv(x), m.p, None, [2], [1]),
            parameter(4, 4, 3, 3),
        ),
        (IMAGE,),
    ),
    "a scalar between convolutions": (With(lambda m, x: m.conv(m.conv(x) * 20 + 1)), (IMAGE,)),
    "factors of fewer dimensions between convolutions": (
        With(lambda m, x: m.conv(m.conv(x) * m.p - m.q), parameter(4, 1, 1), parameter(8)),
        (IMAGE,),
    ),
    "a dropout between operators that share parameters": (
        With(lambda m, x: F.dropout(m.conv(x), training=False).flatten(1).relu()),
        (IMAGE,),
    ),
    "a linear after a permuted convolution": (
        With(lambda m, x: m.linear(m.conv(x).permute(0, 1, 3, 2))),
        (IMAGE,),
    ),
    "a linear over the channels of a convolution": (
        Call(
            lambda m, x: m.linear(m.conv(x).permute(0, 2, 3, 1)),
            conv=nn.Conv2d(4, 4, 3),
            linear=nn.Linear(4, 6),
        ),
        (IMAGE,),
    ),
    "convolutions of two kinds on one image": (
        Call(
            lambda m, x: (m.pointwise(x), m.conv(x)),
            pointwise=nn.Conv2d(4, 4, 1),
            conv=nn.Conv2d(4, 4, 3),
        ),
        (IMAGE,),
    ),
    "a convolution and a linear on one image": (
        With(lambda m, x: (m.conv(x), m.linear(x))),
        (IMAGE,),
    ),
    "a linear between convolutions": (With(lambda m, x: m.conv(m.linear(m.conv(x)))), (IMAGE,)),
    "a convolution of a sum": (With(lambda m, x, y: m.conv(x + y)), (IMAGE, IMAGE)),
    "a convolution of what others read": (
        With(lambda m, x: (lambda y: m.conv(y) + y)(x * 2)),
        (IMAGE,),
    ),
    "a convolution of an input that an earlier sum reads": (
        With(lambda m, x, y: (x + y, m.conv(y))),
        (IMAGE, IMAGE),
    ),
    "a convolution of rows": (With(lambda m, x: m.conv(x.reshape(IMAGE))), ((1, 4, 64),)),
    "a softmax over the width of a convolution": (
        With(lambda m, x: torch.softmax(m.conv(x) * 3, -1)),
        (IMAGE,),
    ),
    "batch norm first in a sequence": (
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
        (IMAGE,),
    ),
    "batch norm after relu in a sequence": (
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
        (IMAGE,),
    ),
    "a runtime factor without dimensions": (
        With(lambda m, x, k: m.linear(x) * k + k),
        (ROW, ()),
    ),
    "a causal mask of minus infinity": (
        With(
            lambda m, x: torch.softmax(m.linear(x) @ x.T + m.p, -1) @ x,
            nn.Parameter(torch.full((2, 2), -torch.inf).triu(1)),
        ),
        (ROW,),
    ),
    "a causal mask of a large number": (
        With(
            lambda m, x: torch.softmax(m.linear(x) @ x.T + m.p, -1) @ x,
            nn.Parameter(torch.full((2, 2), -1e9).triu(1)),
        ),
        (ROW,),
    ),
    "a clamp with crossed bounds": (With(lambda m, x: m.linear(x).clamp(0.7, 0.2)), (ROW,)),
    "convolution in 3d with same padding": (nn.Conv3d(2, 2, 3, padding="same"), ((1, 2, 4, 4, 4),)),
    "convolution with same padding": (nn.Conv2d(4, 4, 3, padding="same"), (IMAGE,)),
    "an image without a batch": (nn.Conv2d(4, 4, 3), ((4, 8, 8),)),
    "a change in place through a view": (
        With(lambda m, x: m.linear(_tripled(m.linear(x)))),
        (ROW,),
    ),
    "relu in place, then a view": (
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 4)),
        (IMAGE,),
    ),
    "convolutions in 1d that are used twice": (
        Call(
            lambda m, x: (m.conv(m.conv(x)), m.up(m.up(x))),
            conv=nn.Conv1d(4, 4, 3),
            up=nn.ConvTranspose1d(4, 4, 3),
        ),
        ((1, 4, 16),),
    ),
    "an input changed in place": (With(lambda m, x: m.linear(x.add_(1))), (ROW,)),
}
