"""Weights that are quantized in parts have the values of torch's operators, which compute whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import constant_fold  # noqa: F401 (registers the operators)

from qreg.graph import by_rows
from qreg.graph.by_rows import ByRows, evaluated
from qreg.graph.late import with_late_weights

PER_CHANNEL, AFFINE = torch.ops.quantized_decomposed, torch.ops.torchao
ROWS, COLUMNS = 37, 16


def cases() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    torch.manual_seed(0)
    weight = torch.randn(ROWS, COLUMNS)
    codes = torch.randint(-8, 8, (ROWS, COLUMNS), dtype=torch.int8)
    scale, zero = torch.rand(ROWS) + 0.1, torch.zeros(ROWS, dtype=torch.int64)
    by_channel = (scale, zero, 0, -8, 7, torch.int8)
    groups = torch.rand(ROWS, 4) + 0.1, torch.zeros(ROWS, 4, dtype=torch.int8), torch.int8, -8, 7
    without = (scale, None, 0, -8, 7, torch.int8)
    return {
        "quantize by channel": (PER_CHANNEL.quantize_per_channel.default, (weight, *by_channel)),
        "dequantize by channel": (PER_CHANNEL.dequantize_per_channel.default, (codes, *by_channel)),
        "without zero points": (PER_CHANNEL.dequantize_per_channel.default, (codes, *without)),
        "quantize in groups": (AFFINE.quantize_affine, (weight, [1, 4], *groups)),
        "dequantize in groups": (AFFINE.dequantize_affine.default, (codes, [1, 4], *groups)),
    }


@pytest.mark.parametrize("name", cases())
def test_a_weight_in_parts_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator, args = cases()[name]
    whole = operator(*args)
    monkeypatch.setattr(by_rows, "PART", 5 * COLUMNS)
    parts = evaluated(operator, args, {})
    assert parts.dtype == whole.dtype
    assert parts.stride() == whole.stride()
    assert torch.equal(parts, whole)


def test_a_weight_with_channels_along_another_axis_is_computed_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator, (weight, *rest) = cases()["quantize by channel"]
    monkeypatch.setattr(by_rows, "PART", 5)
    args = (weight.T, *rest[:2], 1, *rest[3:])
    assert torch.equal(evaluated(operator, args, {}), operator(*args))


class Two(nn.Module):
    """Two linears whose weights are dequantized ahead of both."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("one", "two"):
            self.register_buffer(name, torch.randint(-8, 8, (4, 4), dtype=torch.int8))
        self.register_buffer("scale", torch.rand(4, 1))
        self.register_buffer("zero", torch.zeros(4, 1, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        qparams = ([1, 4], self.scale, self.zero, torch.int8, -8, 7)
        first = AFFINE.dequantize_affine(self.one, *qparams)
        second = AFFINE.dequantize_affine(self.two, *qparams)
        return ((x @ first) @ second) @ first


def test_weights_are_dequantized_where_they_are_read(capture: Callable[..., GraphModule]) -> None:
    x = torch.randn(2, 4)
    model = capture(Two(), x)
    before = [node.name for node in model.graph.nodes]
    late = with_late_weights(model)
    kinds = [str(n.target).split(".")[1] for n in late.graph.nodes if n.op == "call_function"]
    once = ["dequantize_affine", "matmul"]
    assert kinds == [*once, *once, "matmul"]
    assert torch.equal(ByRows(late).run(x), model(x))
    assert [node.name for node in model.graph.nodes] == before
    assert late.one is model.one


class Both(Two):
    """One operator reads both constants, as a convolution reads its weight and its bias."""

    def forward(self, x: Tensor) -> Tensor:
        qparams = ([1, 4], self.scale, self.zero, torch.int8, -8, 7)
        first = AFFINE.dequantize_affine(self.one, *qparams)
        second = AFFINE.dequantize_affine(self.two, *qparams)
        return torch.addmm(first, x, second)


def test_two_constants_of_one_operator_are_dequantized_ahead_of_it(
    capture: Callable[..., GraphModule],
) -> None:
    x = torch.randn(4, 4)
    model = capture(Both(), x)
    late = with_late_weights(model)
    kinds = [str(n.target).split(".")[1] for n in late.graph.nodes if n.op == "call_function"]
    assert kinds == ["dequantize_affine", "dequantize_affine", "addmm"]
    assert torch.equal(ByRows(late).run(x), model(x))
