"""Each row of a report is one truth: its decision, reason, place and types fit together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import qreg
from qreg.testing.rows import contradictions


class Between(nn.Module):
    """Operators that the runtime takes away, takes apart, or folds into others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.first(x).clone())
        left, right = self.second(x / 3).chunk(2, 1)
        x = torch.cat([left * 2, right.sigmoid()], 1)
        return self.head(x.mean((2, 3)).contiguous()).clone()


def test_no_row_contradicts_itself() -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(2, 4, 8, 8),) for _ in range(2)]
    report = qreg.explain(
        Between().eval(), batches[0], backend="openvino", calibration=batches, progress=False
    )
    assert contradictions(report) == []
    last = report.operators[-1]
    assert (last.operator, last.place) == ("aten.clone.default", "float")
    assert (last.lowered_as, last.types) == ("within FullyConnected", "f32 -> f32")
