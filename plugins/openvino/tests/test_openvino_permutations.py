"""Values that are permuted, computed on and permuted back are where they belong."""

from __future__ import annotations

from typing import Any

import torch
from chains import Side
from kinds import Apply
from torch import Tensor, nn

import qreg

BETWEEN: tuple[Any, ...] = (
    torch.relu,
    lambda x: x.sigmoid().clamp(0.4, 0.6),
    lambda x: torch.nn.functional.gelu(x).contiguous() * 2,
)


class Read(nn.Module):
    """A convolution of which the permuted value is given too, so that the permutation stays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.relu(self.conv(x).transpose(1, 2))
        return turned.transpose(1, 2) + turned.mT


def convolved(between: Any) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 4, 3, padding=1),
        Apply(lambda x: x.permute(0, 2, 1)),
        Apply(between),
        Apply(lambda x: x.transpose(1, 2)),
        nn.Tanh(),
    )


def test_permutations_that_undo_each_other_move_no_value() -> None:
    torch.manual_seed(0)
    model = Side([*map(convolved, BETWEEN), Read()]).eval()
    batches = [tuple(torch.randn(2, 4, 8) + 0.5 for _ in range(4)) for _ in range(4)]
    result = qreg.quantize(model, batches[0], calibration=batches, backend="openvino")
    assert result.verification is not None
    # Without VNNI some values are a step of int8 apart; moved or cut values are near 0 dB.
    assert min(each.sqnr for each in result.verification.to_converted) > 40
    assert min(each.sqnr for each in result.verification.to_float) > 30
