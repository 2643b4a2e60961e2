"""Kinds of operators, each a module for tensors of one shape, to be put next to each other.

``ANNOTATED`` and ``FLOATS`` are what the XNNPACK table quantizes, and what stands next to that most
often; ``MORE`` is what else models have. Other backends quantize others of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]

IMAGE: Shape = (1, 4, 8, 8)
SEQUENCE: Shape = (2, 4, 8)
ROWS: Shape = (2, 8)


class Apply(nn.Module):
    """A function as a module, so that a scope can name it; with a parameter of the given shape."""

    def __init__(self, function: Callable[..., Tensor], parameter: Shape | None = None) -> None:
        super().__init__()
        self.function = function
        if parameter is not None:
            self.parameter = nn.Parameter(torch.rand(parameter) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.parameter) if hasattr(self, "parameter") else self.function(x)


@frozen
class Kind:
    """An operator by name, the ranks of the tensors that it takes, and how to make it for one."""

    name: str
    make: Callable[[Shape], nn.Module]
    ranks: tuple[int, ...] = (2, 3, 4)


def plain(name: str, function: Callable[[Tensor], Tensor], *ranks: int) -> Kind:
    return Kind(name, lambda shape: Apply(function), ranks or (2, 3, 4))


def with_parameter(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Kind:
    return Kind(name, lambda shape: Apply(function, shape))


def shifted(norm: Any) -> Any:
    """A norm with weights, of which the mean is not 0: an average would be nothing but rounding."""
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, 0.2, 0.7)
    return norm


def normalized(norm: type[nn.Module]) -> Callable[[Shape], nn.Module]:
    def make(shape: Shape) -> nn.Module:
        made: Any = shifted(norm(shape[1]))
        made.running_mean.uniform_(-0.2, 0.2)
        made.running_var.uniform_(0.5, 1.5)
        return made

    return make


def spread(size: int) -> int:
    """The size of what is normalized: of few values the result is little more than their order."""
    if size < 4:
        raise ValueError(size)
    return size


def _swapped(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:-2], x.shape[-1], x.shape[-2])


ANNOTATED = (
    Kind("linear", lambda s: nn.Linear(s[-1], s[-1])),
    Kind("conv1d", lambda s: nn.Conv1d(s[1], s[1], 3, padding=1), (3,)),
    Kind("conv2d", lambda s: nn.Conv2d(s[1], s[1], 3, padding=1), (4,)),
    Kind("depthwise", lambda s: nn.Conv2d(s[1], s[1], 3, padding=1, groups=s[1]), (4,)),
    Kind("conv_transpose1d", lambda s: nn.ConvTranspose1d(s[1], s[1], 3, padding=1), (3,)),
    Kind("conv_transpose2d", lambda s: nn.ConvTranspose2d(s[1], s[1], 3, padding=1), (4,)),
    Kind(
        "conv_relu",
        lambda s: nn.Sequential(nn.Conv2d(s[1], s[1], 3, padding=1), nn.ReLU()),
        (4,),
    ),
    Kind("pad_conv", lambda s: nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(s[1], s[1], 3)), (4,)),
    with_parameter("add", torch.add),
    plain("add a number", lambda x: x + 0.5),
    with_parameter("sub", torch.sub),
    with_parameter("mul", torch.mul),
    with_parameter("cat", lambda x, p: torch.cat([x, p], 1)),
    plain("mean", lambda x: x.mean((2, 3), keepdim=True), 4),
    plain("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), 4),
    plain("max_pool2d", lambda x: F.max_pool2d(x, 3, 1, 1), 4),
    plain("slice", lambda x: x[:, :-1] if x.shape[1] > 1 else x[:, :1]),
    plain("permute", lambda x: x.permute(0, 2, 1), 3),
    plain("transpose", lambda x: x.transpose(-1, -2), 3, 4),
    plain("view", _swapped, 3, 4),
    plain("flatten", lambda x: x.flatten(1), 3, 4),
    plain("unsqueeze", lambda x: x.unsqueeze(-1), 2, 3),
    plain("relu", torch.relu),
    plain("hardtanh", lambda x: F.hardtanh(x, -0.5, 0.5)),
    plain("clamp", lambda x: x.clamp(-0.4, 0.6)),
)

FLOATS = (
    plain("pad", lambda x: F.pad(x, (1, 1))),
    plain("sigmoid", torch.sigmoid),
    plain("softmax", lambda x: torch.softmax(x * 3, -1)),
    plain("gelu", F.gelu),
    Kind("layer_norm", lambda s: shifted(nn.LayerNorm(spread(s[-1])))),
    plain("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 1, 1), 4),
    Kind("batch_norm1d", normalized(nn.BatchNorm1d), (2, 3)),
    Kind("batch_norm2d", normalized(nn.BatchNorm2d), (4,)),
)

MORE = (
    plain("pad with ones", lambda x: F.pad(x, (1, 1), value=1.0)),
    plain("pad around", lambda x: F.pad(x, (1, 1, 1, 1)), 3, 4),
    plain("pad channels", lambda x: F.pad(x, (0, 0, 1, 1)), 3),
    plain("pad by nothing", lambda x: F.pad(x, (0, 0))),
    plain("crop", lambda x: F.pad(x, (-1, 1)), 3, 4),
    plain("reflect", lambda x: F.pad(x, (1, 1), mode="reflect"), 3),
    plain("reflect2d", lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), 4),
    plain("replicate", lambda x: F.pad(x, (1, 1), mode="replicate"), 3),
    plain("replicate2d", lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"), 4),
    plain("hardtanh of a narrow range", lambda x: F.hardtanh(x * 30, 0.01, 0.05)),
    plain("clamp from below", lambda x: x.clamp(min=0.1)),
    plain("tanh", torch.tanh),
    plain("silu", F.silu),
    plain("hardswish", F.hardswish),
    plain("leaky_relu", F.leaky_relu),
    plain("elu", F.elu),
    plain("halves", lambda x: x / 2),
    plain("square", lambda x: x**2),
    plain("neg", torch.neg),
    plain("abs", torch.abs),
    plain("maximum", lambda x: torch.maximum(x, x.flip(0))),
    plain("flip", lambda x: x.flip(-1)),
    plain("clone", torch.clone),
    plain("dropout", lambda x: F.dropout(x, training=False)),
    plain("interpolate", lambda x: F.interpolate(x, scale_factor=2.0), 4),
    plain("bilinear", lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), 4),
    plain("unbind", lambda x: torch.stack(x.unbind(1), 1)),
    plain("chunk", lambda x: torch.cat(x.chunk(2, -1)[::-1], -1)),
    plain("add itself", lambda x: x + x),
    plain("squeeze", lambda x: x.unsqueeze(-1).squeeze(-1), 2, 3),
    plain("matmul", lambda x: x @ x.transpose(-1, -2), 3, 4),
    plain("prelu", lambda x: F.prelu(x, torch.full((1,), 0.25))),
    plain("movedim", lambda x: x.movedim(1, -1), 3, 4),
    plain("expand", lambda x: x.unsqueeze(1).expand(-1, 2, *x.shape[1:]).flatten(1, 2), 2, 3),
    plain("repeat", lambda x: x.repeat(1, 2, *[1] * (x.dim() - 2))),
    plain("mean of the last", lambda x: x.mean(-1, keepdim=True)),
    plain("sum", lambda x: x.sum(1, keepdim=True)),
    plain("amax", lambda x: x.amax(-1, keepdim=True)),
    Kind("group_norm", lambda s: shifted(nn.GroupNorm(1, spread(s[1]))), (3, 4)),
    plain("cat of many", lambda x: torch.cat([x, x * 2, x + 1, x - 1, -x, x * 3, x + 2], 1)),
    plain("cat of a tensor and itself", lambda x: torch.cat([x, x], 1)),
    plain("pixel_shuffle", lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2), 4),
    Kind("rms_norm", lambda s: nn.RMSNorm(spread(s[-1]))),
    plain("turned and summed up", lambda x: x.mT.cumsum(-1).mT + x.cumsum(-1), 3, 4),
    plain("cut and summed up", lambda x: x[..., 1:5].sum(-1) + x.sum(-1), 3, 4),
    plain("unsqueeze and select", lambda x: x.unsqueeze(1)[:, 0], 3, 4),
)
