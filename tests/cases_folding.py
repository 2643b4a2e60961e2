"""Modules with batch norms in every place, and with weights that are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from qreg.inputs.specs import flat
from qreg.verification.metrics import compare

Capture = Callable[..., GraphModule]


class Call(nn.Module):
    """A function of a module that has parameters, buffers and children by name."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if type(part) is Tensor:
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class Together(nn.Module):
    """Modules side by side, each on separate inputs, so that they are lowered once."""

    def __init__(self, modules: Sequence[nn.Module], counts: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.counts = nn.ModuleList(modules), counts

    def forward(self, *inputs: Tensor) -> tuple[Any, ...]:
        given = iter(inputs)
        return tuple(
            part(*[next(given) for _ in range(count)])
            for part, count in zip(self.parts, self.counts, strict=True)
        )


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def standardized(weight: Tensor) -> Tensor:
    return (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)


def operators(model: GraphModule) -> list[str]:
    return [str(node.target) for node in model.graph.nodes if node.op == "call_function"]


def constants(model: GraphModule) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def nbytes(model: GraphModule) -> int:
    return sum(each.numel() * each.element_size() for each in constants(model).values())


def is_close(module: nn.Module, model: GraphModule, *inputs: Tensor) -> bool:
    """Whether the folded graph gives what the module gives, but for float rounding."""
    with torch.no_grad():
        wanted, got = flat(module(*inputs)), flat(model(*inputs))
    return all(compare(one, other).sqnr > 110 for one, other in zip(wanted, got, strict=True))


IMAGE, ROWS, TIMES, VOLUME = (2, 4, 7, 7), (6, 8), (2, 4, 9), (1, 4, 5, 5, 5)


def with_statistics(module: nn.Module) -> nn.Module:
    """The module with statistics and parameters of its norms that are far from 0 and 1."""
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d)):
            if each.running_mean is not None and each.running_var is not None:
                each.running_mean.normal_()
                each.running_var.uniform_(0.3, 3)
            if each.affine:
                nn.init.normal_(each.weight, 1, 0.3)
                nn.init.normal_(each.bias)
    return module.eval()


def residual(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.stem(x)
    return y + m.conv(F.relu(m.norm(y)))


Case = tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...], list[str]]
NORMS: dict[str, Case] = {
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)), (TIMES,), ["conv1d"]),
    "conv2d without bias": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
        (IMAGE,),
        ["conv2d"],
    ),
    "grouped conv3d with same padding": (
        lambda: nn.Sequential(nn.Conv3d(4, 6, 3, groups=2, padding="same"), nn.BatchNorm3d(6)),
        (VOLUME,),
        ["conv3d"],
    ),
    "transposed conv1d": (
        lambda: nn.Sequential(nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6)),
        (TIMES,),
        ["conv_transpose1d"],
    ),
    "grouped transposed conv2d": (
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
        (IMAGE,),
        ["conv_transpose2d"],
    ),
    "grouped transposed conv3d without bias": (
        lambda: nn.Sequential(nn.ConvTranspose3d(4, 8, 3, groups=4, bias=False), nn.BatchNorm3d(8)),
        (VOLUME,),
        ["conv_transpose3d"],
    ),
    "linear and norm without affine": (
        lambda: nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5, affine=False)),
        (ROWS,),
        ["linear"],
    ),
    "addmm": (
        lambda: Call(
            lambda m, x: m.norm(torch.addmm(m.b, x, m.w)),
            b=parameter(5),
            w=parameter(8, 5),
            norm=nn.BatchNorm1d(5),
        ),
        (ROWS,),
        ["addmm"],
    ),
    "weight norm": (
        lambda: nn.Sequential(weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
        (IMAGE,),
        ["conv2d"],
    ),
    "spectral norm": (
        lambda: nn.Sequential(spectral_norm(nn.Linear(8, 5)), nn.BatchNorm1d(5)),
        (ROWS,),
        ["linear"],
    ),
    "two norms in a row": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)),
        (IMAGE,),
        ["conv2d"],
    ),
    "instance norm with running statistics": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
        ),
        (IMAGE,),
        ["conv2d"],
    ),
    "one convolution and two norms": (
        lambda: Call(
            lambda m, x, y: (m.first(m.conv(x)), m.second(m.conv(y))),
            conv=nn.Conv2d(4, 6, 3),
            first=nn.BatchNorm2d(6),
            second=nn.BatchNorm2d(6),
        ),
        (IMAGE, IMAGE),
        ["conv2d", "conv2d"],
    ),
    "two convolutions and one norm": (
        lambda: Call(
            lambda m, x: m.norm(m.one(x)) + m.norm(m.other(x)),
            one=nn.Conv2d(4, 6, 3),
            other=nn.Conv2d(4, 6, 3),
            norm=nn.BatchNorm2d(6),
        ),
        (IMAGE,),
        ["conv2d", "conv2d", "add"],
    ),
    "one convolution with a norm and without": (
        lambda: Call(
            lambda m, x, y: (m.norm(m.conv(x)), m.conv(y)),
            conv=nn.Conv2d(4, 6, 3),
            norm=nn.BatchNorm2d(6),
        ),
        (IMAGE, IMAGE),
        ["conv2d", "conv2d"],
    ),
    "one bias and two linears": (
        lambda: Call(
            lambda m, x: (m.norm(F.linear(x, m.v, m.b)), F.linear(x, m.w, m.b)),
            v=parameter(5, 8),
            w=parameter(5, 8),
            b=parameter(5),
            norm=nn.BatchNorm1d(5),
        ),
        (ROWS,),
        ["linear", "linear"],
    ),
    "a convolution that others read": (
        lambda: Call(
            residual,
            stem=nn.Conv2d(4, 6, 3),
            norm=nn.BatchNorm2d(6),
            conv=nn.Conv2d(6, 6, 3, padding=1),
        ),
        (IMAGE,),
        ["conv2d", "mul", "add", "relu", "conv2d", "add"],
    ),
    "a linear that others read": (
        lambda: Call(
            lambda m, x: (lambda y: m.norm(y) + y)(m.linear(x)),
            linear=nn.Linear(8, 5),
            norm=nn.BatchNorm1d(5),
        ),
        (ROWS,),
        ["linear", "mul", "add", "add"],
    ),
    "a convolution that is an output": (
        lambda: Call(
            lambda m, x: (lambda y: (y, m.norm(y)))(m.conv(x)),
            conv=nn.Conv2d(4, 6, 3),
            norm=nn.BatchNorm2d(6),
        ),
        (IMAGE,),
        ["conv2d", "mul", "add"],
    ),
    "a norm after relu": (
        lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.ReLU(), nn.BatchNorm1d(6), nn.Conv1d(6, 4, 3)),
        (TIMES,),
        ["conv1d", "relu", "mul", "add", "conv1d"],
    ),
    "depthwise branches and their input": (
        lambda: Call(
            lambda m, x: m.norm(m.large(x) + m.small(x) + x),
            large=nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4)
            ),
            small=nn.Conv2d(4, 4, (1, 5), padding=(0, 2), groups=4),
            norm=nn.BatchNorm2d(4),
        ),
        (IMAGE,),
        ["conv2d"],
    ),
    "depthwise branches with strides": (
        lambda: Call(
            lambda m, x: m.large(x) + m.small(x),
            large=nn.Conv1d(4, 4, 3, 2, padding=1, groups=4, bias=False),
            small=nn.Conv1d(4, 4, 1, 2, groups=4, bias=False),
        ),
        (TIMES,),
        ["conv1d"],
    ),
    "a branch whose input is changed through a view": (
        lambda: Call(
            lambda m, x: (lambda y: (m.own(y), y.view(-1).mul_(3))[0] + y)(x * 2),
            own=nn.Conv2d(4, 4, 3, padding=1, groups=4),
        ),
        (IMAGE,),
        ["mul", "conv2d", "view", "mul_", "add"],
    ),
    "branches that are not one convolution": (
        lambda: Call(
            lambda m, x: (
                m.dense(x) + x,
                m.shifted(x) + x,
                (lambda y: y + x + m.other(y))(m.own(x)),
                m.own(x) + m.own(x.relu()),
            ),
            dense=nn.Conv2d(4, 4, 3, padding=1),
            shifted=nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
            own=nn.Conv2d(4, 4, 3, padding=1, groups=4),
            other=nn.Conv2d(4, 4, 3, padding=1, groups=4),
        ),
        (IMAGE,),
        [
            *("conv2d", "add", "conv2d", "add", "conv2d", "add", "conv2d", "add"),
            *("conv2d", "relu", "conv2d", "add"),
        ],
    ),
    "a norm over flattened tokens": (
        lambda: Call(
            lambda m, x: (lambda y: m.norm(y.flatten(0, 1)).reshape_as(y))(m.linear(x)),
            linear=nn.Linear(9, 5, bias=False),
            norm=nn.BatchNorm1d(5),
        ),
        (TIMES,),
        ["linear", "flatten", "reshape_as"],
    ),
    "a norm between transpositions": (
        lambda: Call(
            lambda m, x: m.norm(m.linear(x).transpose(1, 2)).transpose(1, 2),
            linear=nn.Linear(9, 4),  # as many channels as tokens
            norm=nn.BatchNorm1d(4),
        ),
        (TIMES,),
        ["linear", "transpose", "transpose"],
    ),
    "a norm over flattened pixels": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(2), nn.BatchNorm1d(6)),
        (IMAGE,),
        ["conv2d", "flatten"],
    ),
    "a norm over channels and pixels": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(1), nn.BatchNorm1d(150)),
        (IMAGE,),
        ["conv2d", "flatten", "mul", "add"],
    ),
    "a norm over tokens that others read": (
        lambda: Call(
            lambda m, x: (lambda y: m.norm(y.flatten(0, 1)) + y.view(-1, 5))(m.linear(x)),
            linear=nn.Linear(9, 5),
            norm=nn.BatchNorm1d(5),
        ),
        (TIMES,),
        ["linear", "flatten", "mul", "add", "view", "add"],
    ),
    "a linear over three dimensions": (
        lambda: nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(4)),
        (TIMES,),
        ["linear", "mul", "add"],
    ),
    "a convolution without a batch dimension": (
        lambda: nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(9)),
        ((4, 9),),
        ["conv1d", "mul", "add"],
    ),
    "a dropout before the norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout2d(), nn.BatchNorm2d(6)),
        (IMAGE,),
        ["conv2d"],
    ),
    "a norm of the input": (lambda: nn.BatchNorm2d(4), (IMAGE,), ["mul", "add"]),
    "layer, group and instance norm": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.LayerNorm(5), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6)
        ),
        (IMAGE,),
        ["conv2d", "layer_norm", "group_norm", "instance_norm"],
    ),
}
