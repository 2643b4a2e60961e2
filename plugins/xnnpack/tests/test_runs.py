"""Every stock pattern through the runtime: all in one delegate, with the right numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from side_by_side import Table
from torch import Tensor, nn
from torch.nn import functional

import qreg
from qreg_xnnpack.annotators import ANNOTATORS


class Call(nn.Module):
    """A module that is a function of its inputs."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


IMAGE, ROW = (1, 4, 8, 8), (3, 16)


def conv(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 8, 3, **options)


def between(activation: nn.Module) -> nn.Sequential:
    """An activation between two convolutions."""
    return nn.Sequential(conv(), activation, nn.Conv2d(8, 4, 1))


torch.manual_seed(0)  # for the weights
# annotator -> a module in which it applies, and the shapes of its inputs
CASES: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...]]] = {
    "linear": (nn.Linear(16, 8), (ROW,)),
    "linear without bias": (nn.Linear(16, 8, bias=False), (ROW,)),
    "linear_relu": (nn.Sequential(nn.Linear(16, 8), nn.ReLU()), (ROW,)),
    "conv": (conv(stride=2, padding=1), (IMAGE,)),
    "conv without bias": (conv(bias=False), (IMAGE,)),
    "conv in groups": (nn.Conv2d(4, 8, 3, groups=2), (IMAGE,)),
    "conv depthwise": (nn.Conv2d(4, 8, 3, groups=4), (IMAGE,)),
    "conv in 1d": (nn.Conv1d(4, 8, 3), ((1, 4, 16),)),
    "conv with batch norm": (nn.Sequential(conv(), nn.BatchNorm2d(8)), (IMAGE,)),
    "conv_relu": (nn.Sequential(conv(), nn.ReLU()), (IMAGE,)),
    "conv_relu in place": (nn.Sequential(conv(), nn.ReLU(inplace=True)), (IMAGE,)),
    "conv_relu with batch norm": (
        nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU()),
        (IMAGE,),
    ),
    "conv_relu in 1d": (nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU()), ((1, 4, 16),)),
    "conv_clamp": (nn.Sequential(conv(), nn.ReLU6()), (IMAGE,)),
    "conv_clamp by hardtanh": (nn.Sequential(conv(), nn.Hardtanh(-0.25, 0.5)), (IMAGE,)),
    "conv_clamp by clamp": (
        nn.Sequential(conv(), Call(lambda x: x.clamp(-0.25, 0.5))),
        (IMAGE,),
    ),
    "conv_transpose": (nn.ConvTranspose2d(4, 8, 3, stride=2), (IMAGE,)),
    "conv_transpose without bias": (nn.ConvTranspose2d(4, 8, 3, bias=False), (IMAGE,)),
    "conv_transpose in 1d": (nn.ConvTranspose1d(4, 8, 3), ((1, 4, 16),)),
    "conv_transpose_relu": (nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.ReLU()), (IMAGE,)),
    "conv_transpose_clamp": (nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.ReLU6()), (IMAGE,)),
    "conv_transpose with batch norm": (
        nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8)),
        (IMAGE,),
    ),
    "pad_conv": (nn.Sequential(nn.ZeroPad2d(1), conv()), (IMAGE,)),
    "pad_conv in 1d": (nn.Sequential(nn.ZeroPad1d(2), nn.Conv1d(4, 8, 3)), ((1, 4, 16),)),
    "pad_conv_relu": (nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), conv(), nn.ReLU()), (IMAGE,)),
    "pad_conv_clamp": (nn.Sequential(nn.ZeroPad2d(1), conv(), nn.ReLU6()), (IMAGE,)),
    "linear_clamp": (nn.Sequential(nn.Linear(16, 8), nn.Hardtanh()), (ROW,)),
    "linear over tokens": (nn.Linear(16, 8), ((1, 5, 16),)),
    "sub": (Call(torch.sub), (IMAGE, IMAGE)),
    "sub of a scalar": (Call(lambda x: x - 0.5), (IMAGE,)),
    "sub from a scalar": (Call(lambda x: 1 - x), (IMAGE,)),
    "clamp from below": (Call(lambda x: (x + 1).clamp(min=-0.5)), (IMAGE,)),
    "mul_relu": (Call(lambda x, y: functional.relu(x * y)), (IMAGE, IMAGE)),
    "unsqueeze": (Call(lambda x: (x + 1).unsqueeze(-1)), (ROW,)),
    "add": (Call(torch.add), (IMAGE, IMAGE)),
    "add of a scalar": (Call(lambda x: x + 1.5), (IMAGE,)),
    "add in place": (Call(lambda x, y: (x * 1.0).add_(y)), (IMAGE, IMAGE)),
    "add to itself": (Call(lambda x: x + x), (IMAGE,)),
    "add broadcast": (Call(torch.add), (IMAGE, (1, 4, 1, 1))),
    "add_relu": (Call(lambda x, y: functional.relu(x + y)), (IMAGE, IMAGE)),
    "mul": (Call(torch.mul), (IMAGE, IMAGE)),
    "mul by a scalar": (Call(lambda x: x * 0.25), (IMAGE,)),
    "cat": (Call(lambda x, y: torch.cat([x, y], 1) + 1), (IMAGE, IMAGE)),
    "cat of sums": (Call(lambda x, y: torch.cat([x + y, x * y, x], 1) + 1), (IMAGE, IMAGE)),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d(1), (IMAGE,)),
    "max_pool2d": (nn.Sequential(conv(), nn.MaxPool2d(2)), (IMAGE,)),
    "max_pool2d without a stride": (
        Call(lambda x: functional.max_pool2d(x + 1, 2)),
        (IMAGE,),
    ),
    "relu": (Call(lambda x: functional.relu((x + 1).transpose(1, 2))), (IMAGE,)),
    "hardtanh": (nn.Sequential(conv(), nn.Hardtanh()), (IMAGE,)),
    "mean": (Call(lambda x: (x + 1).mean((2, 3), keepdim=True)), (IMAGE,)),
    "permute": (Call(lambda x: (x + 1).permute(0, 2, 3, 1)), (IMAGE,)),
    "transpose": (Call(lambda x: (x + 1).transpose(1, 2)), (IMAGE,)),
    "view": (Call(lambda x: (x + 1).view(1, -1)), (IMAGE,)),
    "reshape": (Call(lambda x: (x + 1).reshape(4, 64)), (IMAGE,)),
    "flatten": (Call(lambda x: (x + 1).flatten(1)), (IMAGE,)),
    "slice": (Call(lambda x: (x + 1)[:, 1:3]), (IMAGE,)),
    "hardswish": (between(nn.Hardswish()), (IMAGE,)),
    "sigmoid": (between(nn.Sigmoid()), (IMAGE,)),
    "tanh": (between(nn.Tanh()), (IMAGE,)),
    "gelu": (between(nn.GELU()), (IMAGE,)),
    "leaky_relu": (between(nn.LeakyReLU(0.1)), (IMAGE,)),
    "leaky_relu by default": (between(nn.LeakyReLU()), (IMAGE,)),
    "silu": (between(nn.SiLU()), (IMAGE,)),
    "silu in place": (between(nn.SiLU(inplace=True)), (IMAGE,)),
    "silu and its input": (between(Call(lambda x: x + functional.silu(x))), (IMAGE,)),
    "silu as a product": (between(Call(lambda x: x * torch.sigmoid(x))), (IMAGE,)),
    "gelu of rows": (nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 8)), (ROW,)),
}


@pytest.fixture(scope="module")
def static(quantized: Any) -> Table:
    return Table(CASES, quantized)


@pytest.mark.parametrize("case", CASES)
def test_the_program_runs_in_one_delegate_and_agrees(case: str, static: Table) -> None:
    share = static[case]
    assert {decision.status for decision in share.decisions} <= {"annotated", "shared"}
    assert {each.place for each in share.placements.values()} <= {"int8", "gone"}, case
    assert (share.defects, share.splits) == ([], [])
    (to_converted,), (to_float,) = share.to_converted, share.to_float
    assert to_converted.sqnr > 35, case
    assert to_float.sqnr > 20, case
    program = share.result
    assert (program.lowered.delegates, program.lowered.outside) == (1, ())
    assert program.audit.leftover == ()


DYNAMIC = {
    "linear": (nn.Linear(16, 8), (ROW,)),
    "linear and relu": (nn.Sequential(nn.Linear(16, 8), nn.ReLU()), (ROW,)),
    "conv": (conv(padding=1), (IMAGE,)),
    "conv and relu": (nn.Sequential(conv(padding=1), nn.ReLU()), (IMAGE,)),
    "conv_transpose": (nn.ConvTranspose2d(4, 8, 3), (IMAGE,)),
}


@pytest.fixture(scope="module")
def dynamic(quantized: Any) -> Table:
    return Table(DYNAMIC, partial(quantized, config="int8_dynamic_per_channel"))


@pytest.mark.parametrize("case", DYNAMIC)
def test_dynamic_programs_run_in_one_delegate_and_agree(case: str, dynamic: Table) -> None:
    """The delegate quantizes each row by its own range, PT2E the whole tensor: 25 dB are left."""
    share = dynamic[case]
    assert "annotated" in {each.status for each in share.decisions}
    assert share.defects == []
    assert share.to_converted[0].sqnr > 25
    assert share.to_float[0].sqnr > 25
    assert (share.result.lowered.delegates, share.result.lowered.outside) == (1, ())


REFUSED = {
    "dynamic with one input channel": (
        nn.Conv2d(1, 8, 3),
        ((1, 1, 8, 8),),
        "int8_dynamic_per_channel",
        "one input channel",
    ),
    "dynamic depthwise": (
        nn.Conv2d(4, 4, 3, groups=4),
        (IMAGE,),
        "int8_dynamic_per_channel",
        "one input channel per group",
    ),
    "dynamic in 1d": (nn.Conv1d(4, 8, 3), ((1, 4, 16),), "int8_dynamic_per_channel", "in 1d"),
    "transposed in groups": (
        nn.ConvTranspose2d(4, 8, 3, groups=2),
        (IMAGE,),
        "default",
        "conv_transpose with 2 groups: the delegate supports 1",
    ),
    "conv in 3d": (nn.Conv3d(4, 8, 3), ((1, 4, 8, 8, 8),), "default", "convolution in 3d"),
    "pooling to 2 x 2": (nn.AdaptiveAvgPool2d(2), (IMAGE,), "default", r"\[2, 2\]"),
    "mean over channels": (
        Call(lambda x: functional.relu(x).mean(1)),
        (IMAGE,),
        "default",
        r"mean over \[1\]",
    ),
    "cat of one tensor": (Call(lambda x: torch.cat([x])), (IMAGE,), "default", "two or more"),
    "scaled add": (
        Call(lambda x, y: torch.add(x, y, alpha=2)),
        (IMAGE, IMAGE),
        "default",
        "alpha=2",
    ),
    "huge scalar": (Call(lambda x: x + 1e30), (IMAGE,), "default", r"1e\+30"),
    "computed weight": (Call(functional.linear), (ROW, (8, 16)), "default", "its weight is"),
    "integers": (Call(lambda x: x.long() + 1), (ROW,), "default", "torch.int64"),
    "softmax": (nn.Softmax(-1), (ROW,), "default", "no annotator for aten.softmax.int"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_delegate_refuses_is_not_annotated_and_says_why(case: str, quantized: Any) -> None:
    module, shapes, config, reason = REFUSED[case]
    with pytest.raises(qreg.errors.NothingQuantizedError, match=reason):
        quantized(module, *shapes, config=config)


def test_what_is_refused_runs_in_float_where_that_is_allowed(quantized: Any) -> None:
    module = Call(lambda x: torch.add(x, x, alpha=2))
    result = quantized(module, IMAGE, allow_float=True)
    assert result.verification.to_float[0].sqnr > 100


COVERED = {annotator.name for annotator in ANNOTATORS if "static" in annotator.modes}


def test_every_annotator_was_audited_through_the_runtime(static: Table) -> None:
    """The cases above leave none out: a new annotator needs a case."""
    used = {each.annotator for case in CASES for each in static[case].decisions}
    assert used == COVERED
