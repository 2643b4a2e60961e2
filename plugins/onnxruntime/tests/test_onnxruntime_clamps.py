"""Clamps of moved and pooled values cost nothing, or are decided for float as they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases_onnxruntime import IMAGE, Between, Call, Together
from torch import Tensor, nn
from torch.export import export
from torch.nn import functional

import qreg
from qreg_onnxruntime.clamps import clamped_first

relu = torch.relu


def halves(activation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([activation(second), activation(first)], 1)


MOVED: dict[str, Callable[[Tensor], Tensor]] = {
    "split": lambda x: halves(relu, x),
    "slice": lambda x: functional.relu6(x[:, :, 2:6]),
    "max pool": lambda x: relu(functional.max_pool2d(x, 2)),
    "max pool, in place": lambda x: functional.max_pool2d(x, 2).relu_(),
    "reshape": lambda x: relu(x.reshape(-1, 4, 16, 4)),
    "upsample": lambda x: functional.interpolate(x, scale_factor=2).clamp(-0.5, 0.5),
    "two moves": lambda x: functional.hardtanh(x.transpose(2, 3)[:, :, :3]),
    "behind a sum": lambda x: relu(functional.max_pool2d(x + x.tanh(), 2)),
}


def test_clamps_of_moved_values_run_in_integers_and_agree(quantized: Any) -> None:
    models = [Between(each) for each in MOVED.values()]
    result: qreg.Result = quantized(Together(*models), IMAGE)
    assert not result.report.defects
    rows = [each for each in result.report.operators if not each.quantized]
    assert {row.operator for row in rows} == {"aten.tanh.default", "aten.clone.default"}
    kernels = {each.operator for each in result.lowered.operators if not each.int8}
    assert kernels.isdisjoint({"Slice", "Split", "MaxPool", "Reshape", "Resize", "Relu", "Clip"})
    for name, found in zip(MOVED, result.verification.to_float, strict=True):
        assert found.sqnr > 25, name


def test_a_clamp_of_some_of_the_values_is_decided_as_it_runs(quantized: Any) -> None:
    def one(x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        return torch.cat([relu(first), second], 1)

    def pooled(x: Tensor) -> Tensor:
        return relu(functional.max_pool2d(x, 2)) + x[:, :, ::2, ::2]

    result = quantized(Together(Between(one), Between(pooled)), IMAGE)
    assert not result.report.defects
    for name in ("slice.Tensor", "max_pool2d.default"):
        rows = [each for each in result.report.operators if name in each.operator]
        assert any("a clamp alone reads it" in row.reason for row in rows), name
        assert all(row.place == "float" for row in rows if not row.quantized)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: halves(relu, x),
        lambda x: torch.cat([x[:, 2:].relu_(), x[:, :2].relu_()], 1),
        lambda x: x[:, :3].relu_() + x[:, 1:].relu_(),
        lambda x: halves(relu, x) + relu(x),
        lambda x: relu(x[:, :2]) + x[:, 2:],
        lambda x: relu(x[:, :2]) + functional.relu6(x[:, 2:]),
        lambda x: x[:, :2].clamp(0.1, 1.0),
        lambda x: relu(x[:, :3]).add_(1.0) + relu(x[:, 1:]),
        lambda x: x[:, :2].relu_() + x.sum(),
        lambda x: relu(x[:, :2]).mul(2.0),
        lambda x: relu(x.clone()[:, :2]),
    ],
)
def test_the_transform_does_not_change_results(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(4, 4, 1), Call(function)), torch.randn(2, 4, 6, 6)
    program = export(model, (x,)).module()
    expected = program(x)
    changed = clamped_first(program, frozenset({"static"}))
    changed.graph.lint()
    assert torch.equal(changed(x), expected)
