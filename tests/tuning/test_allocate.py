"""Bits for the weights of a model, some of which are in the body of a loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan

import qreg
from qreg import Registry


class Looping(nn.Module):
    """A linear, and another one in the body of a scan."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before, self.inside = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.before(x)
        return scan(lambda carry, row: (carry + 1, self.inside(row)), torch.zeros(4), rows)[1]


def test_a_weight_in_the_body_of_a_loop_is_left_out(registry: Registry) -> None:
    batches = [(torch.randn(3, 2, 4),) for _ in range(2)]
    found = qreg.allocate_bits(
        Looping().eval(),
        batches[0],
        bits=10,
        calibration=batches,
        backend="toy",
        configs=["dynamic"],
        registry=registry,
        progress=False,
    )
    assert [each.places[0].module for each in found.weights] == ["before"]
