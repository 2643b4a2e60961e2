"""Every backend: rows of a report are consistent, and norms and cross attention close to float.

One program for each backend has the norms that cannot be a part of a layer, cross attention, and
operators that runtimes change.
"""

from __future__ import annotations

import pytest
import torch
from cases_folding import NORMS, Call, Together, with_statistics
from torch import Tensor, nn

import qreg
from qreg.plugins.registry import installed
from qreg.testing.rows import contradictions

STOCK = ("xnnpack", "onnxruntime", "openvino", "x86_inductor", "arm")
HERE = [name for name in STOCK if name in installed().backends()]
PLACES = ("a convolution that others read", "a norm after relu")
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
def result(request: pytest.FixtureRequest) -> qreg.Result:
    cases = [NORMS[name] for name in PLACES]
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    modules = [
        *(with_statistics(make()) for make, _, _ in cases),
        Call(lambda m, q, k: m.attention(q, k, k)[0], attention=attention),
        Between(),
    ]
    shapes = [*(each for _, each, _ in cases), ((1, 3, 16), (1, 5, 16)), ((2, 4, 8, 8),)]
    together = Together(modules, [len(each) for each in shapes]).eval()
    batches = [tuple(torch.randn(each) for flat in shapes for each in flat) for _ in range(4)]
    return qreg.quantize(
        together, batches[0], backend=request.param, calibration=batches, progress=False
    )


@pytest.fixture
def report(result: qreg.Result) -> qreg.Report:
    return result.report


def test_norms_and_cross_attention_are_close_to_float(result: qreg.Result) -> None:
    assert result.verification is not None
    assert min(each.sqnr for each in result.verification.to_float[:-1]) >= 30


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
