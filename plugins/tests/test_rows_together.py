"""Every backend: each row of a report is one truth, its decision, reason, place and types."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.plugins.registry import installed
from qreg.testing.rows import contradictions

STOCK = ("xnnpack", "onnxruntime", "openvino", "x86_inductor", "arm")
HERE = [name for name in STOCK if name in installed().backends()]
# What the copy at the end of the model becomes part of, in the words of the runtime.
LAST = {
    "onnxruntime": ("within QGemm", "float32 -> float32"),
    "openvino": ("within FullyConnected", "f32 -> f32"),
}


class Between(nn.Module):
    """Operators that runtimes remove, decompose, or fuse with others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.first(x).clone())
        left, right = self.second(x / 3).chunk(2, 1)
        x = torch.cat([left * 2, right.sigmoid()], 1)
        return self.head(x.mean((2, 3)).contiguous()).clone()


@pytest.fixture(scope="module", params=HERE)
def report(request: pytest.FixtureRequest) -> qreg.Report:
    torch.manual_seed(0)
    batches = [(torch.randn(2, 4, 8, 8),) for _ in range(2)]
    return qreg.explain(
        Between().eval(), batches[0], backend=request.param, calibration=batches, progress=False
    )


def test_no_row_contradicts_itself(report: qreg.Report) -> None:
    assert contradictions(report) == []


def test_a_copy_of_a_float_output_is_in_float(report: qreg.Report) -> None:
    row = report.operators[-1]
    assert row.operator == "aten.clone.default"
    assert row.quantized or row.place != "int8"  # arm quantizes everything
    if report.backend in LAST:
        assert (row.place, row.lowered_as, row.types) == ("float", *LAST[report.backend])


def test_what_the_runtime_runs_under_another_name_has_a_place(report: qreg.Report) -> None:
    if report.backend == "onnxruntime":  # makes a HardSigmoid and a Mul of it, without names
        (row,) = (each for each in report.operators if each.operator == "aten.hardswish.default")
        assert (row.place, row.lowered_as) == ("float", "HardSigmoid")
