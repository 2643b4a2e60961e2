"""What matmuls of activations ask for upstream does not move convolutions to float."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qreg

Product = Callable[[Tensor, Tensor], Tensor]


def gram(x: Tensor) -> Tensor:
    x = x.flatten(2)
    return x @ x.transpose(1, 2)


def attention(x: Tensor) -> Tensor:
    x = x.flatten(2)
    return F.scaled_dot_product_attention(x, x, x)


LEADING: dict[str, Product] = {
    "cat": lambda x, y: gram(torch.cat([x, y], 1)),
    "stack": lambda x, y: gram(torch.stack([x, y], 1).flatten(1, 2)),
    "cat of pools": lambda x, y: gram(torch.cat([F.max_pool2d(x, 2), y[:, :, :2, :2]], 1)),
    "cat, attention": lambda x, y: attention(torch.cat([x, y], 1)),
    "pad": lambda x, y: gram(F.pad(x, (1, 1, 1, 1))),
    "relu": lambda x, y: gram(x.relu()[:, :4]),
    "average": lambda x, y: gram(F.avg_pool2d(x, 2)),
    "bilinear": lambda x, y: gram(F.interpolate(x, scale_factor=2, mode="bilinear")),
    "moves": lambda x, y: gram(x[:, 2:]),
}


class Branches(nn.Module):
    """Each a convolution, one that reads it, and a product of what they give."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(4, 8, 1) for _ in LEADING)
        self.second = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in LEADING)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = []
        for first, second, product in zip(self.first, self.second, LEADING.values(), strict=True):
            value = first(x)
            depthwise = second(value)
            found.append(product(value, depthwise.tanh()).sum() + depthwise.mean())
        return tuple(found)


def test_convolutions_that_a_product_reads_through_others_run_in_int8() -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(2, 4, 4, 4),) for _ in range(3)]
    result = qreg.quantize(
        Branches().eval(), batches[0], calibration=batches, backend="openvino", min_sqnr=0.0
    )
    assert not result.report.defects
    rows = [each for each in result.report.operators if "conv2d" in each.operator]
    assert len(rows) == 2 * len(LEADING)
    assert {row.place for row in rows} == {"int8"}
    for name, found in zip(LEADING, result.verification.to_converted, strict=True):
        assert found.sqnr > 35, name


class Residual(nn.Module):
    """A linear layer without a bias, which is added to its input."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.several, self.linear = several, nn.Linear(16, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + x.mean() if self.several else x
        return x + self.linear(x.tanh())


@pytest.mark.parametrize("several", [False, True])
def test_a_linear_that_loses_its_name_is_found_by_its_weight(several: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16)
    result = qreg.quantize(
        Residual(several).eval(), (x,), calibration=[(x,), (-x,)], backend="openvino"
    )
    (row,) = [each for each in result.report.operators if each.operator == "aten.linear.default"]
    assert (row.place, row.lowered_as, row.types) == ("int8", "FullyConnected", "i8 -> f32")
