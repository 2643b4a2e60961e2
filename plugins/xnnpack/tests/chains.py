"""Kinds of operators to be put in a row, each in int8 or left in float, and which rows fail.

Many chains are one model, each with an input and an output. Where such a model fails it is halved
until the chain that fails is alone, so that a test names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.nn import functional as F

import qreg

Shape = tuple[int, ...]

CONVERTED_FLOOR, FLOAT_FLOOR = 30.0, 20.0  # dB

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


def normalized(norm: type[nn.Module]) -> Callable[[Shape], nn.Module]:
    def make(shape: Shape) -> nn.Module:
        made: Any = norm(shape[1])
        nn.init.uniform_(made.weight, 0.5, 1.5)
        nn.init.uniform_(made.bias, -0.5, 0.5)
        made.running_mean.uniform_(-0.2, 0.2)
        made.running_var.uniform_(0.5, 1.5)
        return made

    return make


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
    Kind("layer_norm", lambda s: nn.LayerNorm(s[-1])),
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
    Kind("group_norm", lambda s: nn.GroupNorm(1, s[1]), (3, 4)),
    plain("cat of many", lambda x: torch.cat([x, x * 2, x + 1, x - 1, -x, x * 3, x + 2], 1)),
    plain("cat of a tensor and itself", lambda x: torch.cat([x, x], 1)),
    plain("pixel_shuffle", lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2), 4),
    plain("rms_norm", lambda x: F.rms_norm(x, x.shape[-1:])),
    plain("turned and summed up", lambda x: x.mT.cumsum(-1).mT + x.cumsum(-1), 3, 4),
    plain("cut and summed up", lambda x: x[..., 1:5].sum(-1) + x.sum(-1), 3, 4),
    plain("unsqueeze and select", lambda x: x.unsqueeze(1)[:, 0], 3, 4),
)


class Unfit(Exception):
    """A kind does not take the tensor that comes before it."""


@frozen
class Step:
    """A kind, and whether a scope leaves it in float."""

    kind: Kind
    left: bool

    def __str__(self) -> str:
        return f"{self.kind.name} in float" if self.left else self.kind.name


@frozen
class Chain:
    """Operators in a row, from an input of this shape."""

    shape: Shape
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ", then ".join(map(str, self.steps)) + f" on {list(self.shape)}"

    def module(self) -> nn.Sequential:
        """The chain as a model. Raises ``Unfit`` where a kind does not take what comes before."""
        value, made = torch.rand(self.shape), nn.Sequential()
        for step in self.steps:
            shape = tuple(value.shape)
            if len(shape) not in step.kind.ranks:
                raise Unfit
            made.append(step.kind.make(shape).eval())
            try:
                value = made[-1](value)
            except (RuntimeError, ValueError) as problem:  # too small for the window, say
                raise Unfit from problem
        return made

    @property
    def fits(self) -> bool:
        try:
            self.module()
        except Unfit:
            return False
        return True


class Side(nn.Module):
    """Models side by side: each has an input and an output."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.chains = nn.ModuleList(models)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(chain(x) for chain, x in zip(self.chains, inputs, strict=True))


def failures(chains: Sequence[Chain], config: str) -> list[str]:
    """The chains that do not lower, load or agree, and how."""
    torch.manual_seed(0)
    models = [chain.module() for chain in chains]
    batches = [tuple(torch.randn(chain.shape) + 0.5 for chain in chains) for _ in range(4)]
    try:
        result = _quantized(chains, models, batches, config)
    except qreg.errors.QregError as problem:
        return _failing_parts(chains, config, f"{type(problem).__name__}: {problem}")
    return list(_wrong(chains, result))


def _failing_parts(chains: Sequence[Chain], config: str, problem: str) -> list[str]:
    if len(chains) == 1:
        return [f"{chains[0]}: {problem}"]
    half = len(chains) // 2
    found = failures(chains[:half], config) + failures(chains[half:], config)
    return found or [f"{len(chains)} chains from {chains[0]} on, only together: {problem}"]


def _quantized(
    chains: Sequence[Chain], models: Sequence[Any], batches: list[tuple[Tensor, ...]], config: str
) -> qreg.Result:
    # A batch norm that was folded into what comes before it is no operator to be left in float.
    quantizer = qreg.get_quantizer("xnnpack", config=config, unknown_modules="warn")
    for name, _ in _left(chains):
        quantizer.set_module_name(name, None)
    return qreg.quantize(
        Side(models).eval(),
        batches[0],
        calibration=batches,
        quantizer=quantizer,
        allow_float=True,
    )


def _left(chains: Sequence[Chain]) -> Iterator[tuple[str, Chain]]:
    """The modules that are left in float, with the chains that they are in."""
    for number, chain in enumerate(chains):
        for place, step in enumerate(chain.steps):
            if step.left:
                yield f"chains.{number}.{place}", chain


def _wrong(chains: Sequence[Chain], result: qreg.Result) -> Iterator[str]:
    """What is quantized in spite of its scope, and outputs that are far from their models."""
    quantized = {each.module for each in result.decisions if each.status != "float"}
    yield from (
        f"{chain}: {name} is quantized" for name, chain in _left(chains) if name in quantized
    )
    checks = result.verification
    assert checks is not None
    for chain, near, far in zip(chains, checks.to_converted, checks.to_float, strict=True):
        if near.sqnr < CONVERTED_FLOOR or far.sqnr < FLOAT_FLOOR:
            yield f"{chain}: {near.sqnr:.1f} dB to the converted model, {far.sqnr:.1f} to float"
