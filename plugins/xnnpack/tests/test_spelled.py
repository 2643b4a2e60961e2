"""Operators that the delegate has in other forms run in int8, in one delegate, and are right."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from side_by_side import Table, shares
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

import qreg

IMAGE, ROWS, LINE = (2, 4, 8, 8), (2, 6, 16), (2, 4, 16)
FACTORS = torch.tensor([0.5, 3.0, -2.0, 1.5, 8.0, 0.7, 1.0, 2.0]).view(8, 1, 1)


class Between(nn.Module):
    """A function between two layers of one kind, or of two."""

    def __init__(self, first: nn.Module, function: Callable[..., Any], last: nn.Module) -> None:
        super().__init__()
        self.first, self.function, self.last = first, function, last

    def forward(self, x: Tensor) -> Any:
        return self.last(self.function(self.first(x)))


def images(function: Callable[..., Any], channels: int = 8) -> nn.Module:
    return Between(nn.Conv2d(4, 8, 3, padding=1), function, nn.Conv2d(channels, 4, 1))


def rows(function: Callable[..., Any], columns: int = 32) -> nn.Module:
    return Between(nn.Linear(16, 32), function, nn.Linear(columns, 4))


def pooled(function: Callable[..., Any]) -> nn.Module:
    return Between(nn.Conv2d(4, 8, 3, padding=1), function, nn.Linear(8, 4))


def lines(function: Callable[..., Any]) -> nn.Module:
    return Between(nn.Conv1d(4, 8, 3, padding=1), function, nn.Linear(8, 4))


def pooled_with_channels_last(y: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(y.permute(0, 3, 1, 2), 1).flatten(1)


def half_changed(y: Tensor) -> Tensor:
    y[:, :4] = F.relu(y[:, :4]) * 1.5
    return y


def last_channel_changed(y: Tensor) -> Tensor:
    y[:, -1] = y[:, 0]
    y[:, 2:4] *= 2
    return y


def shuffled(y: Tensor) -> Tensor:
    return y.view(2, 2, 4, 8, 8).transpose(1, 2).contiguous().view(2, 8, 8, 8)


def gated(y: Tensor) -> Tensor:
    return y * torch.sigmoid(F.adaptive_avg_pool2d(y, 1)).expand_as(y)


torch.manual_seed(0)  # for the weights
CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "chunk": (images(lambda y: torch.cat([part * 2 for part in y.chunk(2, 1)[::-1]], 1)), IMAGE),
    "chunk of uneven parts": (images(lambda y: torch.cat(y.chunk(3, -3)[::-1], 1)), IMAGE),
    "one chunk": (images(lambda y: F.relu(y.chunk(2, -3)[1]), 4), IMAGE),
    "split": (images(lambda y: torch.cat([part * 1.5 for part in y.split(3, 1)], 1)), IMAGE),
    "split by sizes": (images(lambda y: torch.add(*y.split([4, 4], 1)), 4), IMAGE),
    "split with sizes": (images(lambda y: torch.sub(*y.split_with_sizes([4, 4], 1)), 4), IMAGE),
    "unbind": (rows(lambda y: torch.mul(*y.view(2, 6, 2, 16).unbind(2)), 16), ROWS),
    "unbind of the batch": (rows(lambda y: torch.add(*y.unbind())), ROWS),
    "unbind from the end": (rows(lambda y: torch.mul(*y.view(2, 6, 16, 2).unbind(-1)), 16), ROWS),
    "select": (rows(lambda y: y[:, 0]), ROWS),
    "select from the end": (rows(lambda y: y.select(-2, -1)), ROWS),
    "select of the batch": (rows(lambda y: y[1]), ROWS),
    "select of a channel": (images(lambda y: y[:, 2].unsqueeze(1), 1), IMAGE),
    "stack": (rows(lambda y: torch.stack([y[:, :3], y[:, 3:] * 2], 1)), ROWS),
    "squeeze": (pooled(lambda y: F.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(2)), IMAGE),
    "squeeze of all": (pooled(lambda y: F.adaptive_avg_pool2d(y, 1).squeeze()), IMAGE),
    "unsqueeze": (rows(lambda y: y.unsqueeze(1) * 2), ROWS),
    "movedim": (pooled(lambda y: y.movedim(1, -1)), IMAGE),
    "swapaxes": (pooled(lambda y: y.swapaxes(1, 3)), IMAGE),
    "pixel_shuffle": (images(lambda y: F.pixel_shuffle(y, 2), 2), IMAGE),
    "pixel_unshuffle": (images(lambda y: F.pixel_unshuffle(y, 2), 32), IMAGE),
    "channel_shuffle": (images(lambda y: F.channel_shuffle(y, 2)), IMAGE),
    "channel shuffle by views": (images(shuffled), IMAGE),
    "clone": (images(lambda y: y.clone()), IMAGE),
    "gate of full size": (images(gated), IMAGE),
    "pool of the whole image": (pooled(lambda y: F.avg_pool2d(y, 8).flatten(1)), IMAGE),
    "pool of the whole image with a stride": (
        pooled(lambda y: F.avg_pool2d(y, (8, 8), 1).flatten(1)),
        IMAGE,
    ),
    "pool of more than the image": (
        pooled(lambda y: F.avg_pool2d(y, 32, ceil_mode=True).flatten(1)),
        IMAGE,
    ),
    "pool of the whole line": (lines(lambda y: F.avg_pool1d(y, 16).flatten(1)), LINE),
    "adaptive pool of a line": (lines(lambda y: F.adaptive_avg_pool1d(y, 1).squeeze(-1)), LINE),
    "adaptive pool of channels that are last in memory": (
        Between(nn.Linear(4, 8), pooled_with_channels_last, nn.Linear(8, 4)),
        (2, 8, 8, 4),
    ),
    "mean of images": (pooled(lambda y: y.mean((2, 3))), IMAGE),
    "mean from the end": (pooled(lambda y: y.mean([-1, -2])), IMAGE),
    "mean in two steps": (pooled(lambda y: y.mean(3).mean(2)), IMAGE),
    "mean of flat images": (pooled(lambda y: y.flatten(2).mean(-1)), IMAGE),
    "mean of tokens": (rows(lambda y: y.mean(1)), ROWS),
    "mean of a line": (lines(lambda y: y.mean(-1)), LINE),
    "division by a number": (images(lambda y: y / 3), IMAGE),
    "division in place": (images(lambda y: y.div_(2)), IMAGE),
    "division by a constant": (images(lambda y: y / FACTORS), IMAGE),
    "division by a computed constant": (images(lambda y: y / torch.tensor(8.0).sqrt()), IMAGE),
    "assigned slice": (images(half_changed), IMAGE),
    "assigned channel": (images(last_channel_changed), IMAGE),
}


@pytest.fixture(scope="module")
def spelled(quantized: Any) -> Table:
    return Table({name: (module, [shape]) for name, (module, shape) in CASES.items()}, quantized)


@pytest.mark.parametrize("case", CASES)
def test_it_runs_in_int8_in_one_delegate(case: str, spelled: Table) -> None:
    share = spelled[case]
    assert [each.reason for each in share.decisions if not each.quantized] == []
    assert {each.place for each in share.placements.values()} <= {"int8", "gone"}
    assert (share.defects, share.splits) == ([], [])
    (to_converted,), (to_float,) = share.to_converted, share.to_float
    assert to_converted.sqnr > 32
    assert to_float.sqnr > 25
    assert (share.result.lowered.delegates, share.result.lowered.outside) == (1, ())


def test_a_dynamic_config_computes_the_same(quantized: Any) -> None:
    names = ("chunk", "select", "mean of images", "assigned slice", "stack")
    cases = [(module, [shape]) for module, shape in map(CASES.__getitem__, names)]
    found = shares(cases, partial(quantized, config="int8_dynamic_per_channel"))
    for name, share in zip(names, found, strict=True):
        assert share.to_float[0].sqnr > 25, name
        assert share.result.lowered.outside == ()


@pytest.mark.parametrize(
    "case", ["select", "unbind from the end", "mean of images", "mean of tokens"]
)
def test_a_dynamic_batch_stays_right(case: str) -> None:
    """What needs static sizes stays in float; each batch size gives what the float model gives."""
    module, shape = CASES[case]
    if case == "unbind from the end":
        module = rows(lambda y: torch.mul(*y.unflatten(2, (16, 2)).unbind(-1)), 16)
    torch.manual_seed(0)
    # Many, because a select leaves few values to find ranges of.
    batches = [(torch.randn(shape),) for _ in range(16)]
    sizes = {"x": {0: Dim("batch", min=1, max=8)}}
    result = qreg.quantize(
        module.eval(), batches[0], calibration=batches, dynamic_shapes=sizes, progress=False
    )
    for size in (1, 5):
        x = torch.randn(size, *shape[1:]).clamp(-1.5, 1.5)  # within what was calibrated
        got = result.run(x)
        got = got[0] if isinstance(got, tuple) else got
        expected = module(x)
        assert got.shape == expected.shape
        error = (got - expected).square().mean() / expected.square().mean()
        assert error < 10**-2


def test_a_division_by_what_the_data_tells_stays_a_division(quantized: Any) -> None:
    result = quantized(images(lambda y: y / (y.abs() + 1)), IMAGE)
    rows = {each.operator: each.reason for each in result.decisions}
    assert "aten.div.Tensor" in rows
    assert result.lowered.outside == ()


def test_an_operator_kept_in_float_is_right(quantized: Any) -> None:
    quantizer = qreg.get_quantizer("xnnpack").set_operator_type("aten.silu.default", None)
    result = quantized(images(F.silu), IMAGE, quantizer=quantizer)
    rows = {each.operator: each.status for each in result.decisions}
    assert rows["aten.silu.default"] == "float"
    assert result.verification.to_float[0].sqnr > 25


KEPT: dict[str, tuple[Callable[..., Any], str]] = {
    "division": (lambda y: y / 3, "aten.div.Tensor"),
    "select": (lambda y: y[:, 2].unsqueeze(1).expand(-1, 8, -1, -1) * y, "aten.select"),
    "channel_shuffle": (lambda y: F.channel_shuffle(y, 2), "aten.channel_shuffle.default"),
    "split": (lambda y: torch.cat(y.split(4, 1)[::-1], 1), "aten.split.Tensor"),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_scope_for_an_operator_covers_what_it_becomes(case: str, quantized: Any) -> None:
    function, operator = KEPT[case]
    quantizer = qreg.get_quantizer("xnnpack").set_operator_type(operator, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", qreg.errors.UnknownOperatorWarning)
        result = quantized(images(function), IMAGE, quantizer=quantizer)
    kept = [each for each in result.decisions if "keeps it in float" in each.reason]
    assert kept
    assert not any("conv2d" in each.operator for each in kept)
    assert result.verification.to_float[0].sqnr > 25


@pytest.mark.parametrize("function", [torch.sigmoid, F.silu, F.hardswish, F.gelu])
def test_an_activation_at_the_output_stays_in_float(
    function: Callable[..., Any], quantized: Any
) -> None:
    result = quantized(nn.Sequential(nn.Conv2d(4, 8, 3), Call(function)), IMAGE)
    assert [each.status for each in result.decisions] == ["annotated", "float"]
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


FLOAT = {
    "elu": F.elu,
    "elu with alpha": lambda y: F.elu(y, 0.5),
    "softplus": F.softplus,
    "mish": F.mish,
    "hardsigmoid": F.hardsigmoid,
}


def test_float_activations_stay_in_the_delegate(quantized: Any) -> None:
    found = shares([(images(function), [IMAGE]) for function in FLOAT.values()], quantized)
    for name, share in zip(FLOAT, found, strict=True):
        assert {each.place for each in share.placements.values()} == {"int8", "float"}, name
        assert share.to_float[0].sqnr > 25, name
        assert (share.result.lowered.delegates, share.result.lowered.outside) == (1, ())


def test_float_activations_are_right_where_a_power_would_overflow() -> None:
    module = Call(lambda y: tuple(function(y) for function in FLOAT.values()))
    x = torch.tensor([-1000.0, -90.0, -3.0, -1e-3, 0.0, 1e-3, 3.0, 90.0, 1000.0]).view(1, 1, 3, 3)
    lowered = qreg.lower(module, (x,))
    got = qreg.plugins.registry.installed().backend("xnnpack").value.load(lowered.program)([x])
    for name, one, other in zip(FLOAT, got, module(x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)
    assert (lowered.delegates, lowered.outside) == (1, ())


def test_hardsigmoid_in_float_needs_one_conversion_on_each_side(quantized: Any) -> None:
    result = quantized(images(F.hardsigmoid), IMAGE)
    assert (result.lowered.delegates, result.lowered.outside) == (1, ())
    assert len(result.lowered.conversions) == 4  # the input, the output, and these two
    assert result.verification.to_float[0].sqnr > 30
