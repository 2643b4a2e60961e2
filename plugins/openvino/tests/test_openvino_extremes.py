"""Values that are reduced along dimensions are right ahead of what the plugin fuses with them."""

from __future__ import annotations

from typing import Any

import torch
from chains import Side
from kinds import Apply
from torch import nn
from torch.nn import functional as F

import qreg
from qreg.plugins.registry import installed

EXTREMES: tuple[Any, ...] = (
    lambda x: x.amax(-1),
    lambda x: x.amin(-1),
    lambda x: x.amax(1).tanh(),
    lambda x: x.max(-1)[0],
    lambda x: x.min(1, keepdim=True)[0].relu(),
    lambda x: x.amax((2, 3), keepdim=True).expand(-1, -1, 8, 8),
)


def test_extremes_are_not_cut_to_integers() -> None:
    torch.manual_seed(0)
    model = Side([nn.Sequential(Apply(each), nn.Linear(8, 8)) for each in EXTREMES]).eval()
    batches = [tuple(torch.randn(1, 4, 8, 8) + 0.5 for _ in EXTREMES) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    # Without VNNI some values are a step of int8 apart; moved or cut values are near 0 dB.
    assert min(each.sqnr for each in result.verification.to_converted) > 40
    assert min(each.sqnr for each in result.verification.to_float) > 30


class Zeros(nn.Module):
    """A product with zeros between convolutions: a parameter, one number, or some channels."""

    def __init__(self, *sizes: int, zeros: int | None = None) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.factor = nn.Parameter(torch.ones(sizes))
        self.factor.data[:, :zeros] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.before(x) * self.factor)


def test_products_with_zeros_are_zeros() -> None:
    cases = (Zeros(1, 4, 1, 1), Zeros(1, 1), Zeros(1, 4, 1, 1, zeros=2))
    model = Side(cases).eval()
    batches = [tuple(torch.randn(2, 4, 8, 8) for _ in cases) for _ in range(4)]
    batch = torch.export.Dim("batch", min=1, max=8)
    result = qreg.quantize(
        model,
        batches[0],
        calibration=batches,
        backend="openvino",
        dynamic_shapes=(tuple({0: batch} for _ in cases),),
    )
    one = tuple(each[:1] for each in batches[0])
    for got, expected in zip(result.run(*one), result.converted(*one), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0.02)


ROWS: tuple[Any, ...] = (
    lambda x: x[0].sum(-1) + torch.arange(8.0),
    lambda x: torch.arange(8.0) - x[0].mean(-1),
    lambda x: x[0].sum(-1, keepdim=True) * torch.arange(8.0)[:, None],
    lambda x: x[0].sum(0, keepdim=True) / torch.arange(1.0, 9.0)[:, None],
    lambda x: x.sum(-1) + torch.arange(8.0),
    lambda x: x.mean((2, 3)) * torch.arange(4.0),
)


def test_a_sum_or_mean_meets_each_number_of_a_row_in_its_place() -> None:
    torch.manual_seed(0)
    model = Side([Apply(each) for each in ROWS]).eval()
    inputs = tuple(torch.randn(1, 4, 8, 8) for _ in ROWS)
    program = qreg.lower(model, inputs, backend="openvino").program
    outputs = installed().backend("openvino").value.load(program)(inputs)
    for wanted, output in zip(model(*inputs), outputs, strict=True):
        torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)


LARGER: tuple[Any, ...] = (
    lambda x: F.avg_pool2d(x, 320, 320, ceil_mode=True),
    lambda x: F.avg_pool2d(x, (8, 9), 9, ceil_mode=True, count_include_pad=False),
    lambda x: F.avg_pool2d(x.relu(), 9, ceil_mode=True),
    lambda x: F.avg_pool1d(x.flatten(2), 80, ceil_mode=True),
    lambda x: F.avg_pool2d(x, 8),
)


def test_an_average_over_more_than_its_input_is_that_of_the_input() -> None:
    torch.manual_seed(0)
    parts = (nn.Sequential(nn.Conv2d(4, 4, 1), Apply(each)) for each in LARGER)
    model = Side([nn.Sequential(*each, nn.Flatten(), nn.Linear(4, 3)) for each in parts]).eval()
    batches = [tuple(torch.randn(1, 4, 8, 8) + 0.5 for _ in LARGER) for _ in range(4)]
    program = torch.export.export(model, batches[0])
    lowered = qreg.lower(program, backend="openvino")
    found = installed().backend("openvino").value.load(lowered.program)(list(batches[1]))
    for one, other in zip(found, model(*batches[1]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    result = qreg.quantize(program, batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float) > 30
