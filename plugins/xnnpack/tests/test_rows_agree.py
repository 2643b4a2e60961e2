"""Each row of a report is one truth: its decision, reason, place and types fit together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.testing.rows import contradictions


class Between(nn.Module):
    """Operators that xnnpack has no annotator for, or only sometimes, between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.head, self.tail = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).clone(memory_format=torch.channels_last).relu()  # a copy in float
        x = self.second(x.exp().div(torch.tensor(3)))  # an integer, which is cast
        x = self.head(x.clone().mean((2, 3)))
        x = self.tail(nn.functional.dropout(x.cumsum(1), training=False).contiguous())
        return x.clone()


@pytest.fixture(scope="module")
def report() -> qreg.Report:
    torch.manual_seed(0)
    batches = [(torch.randn(2, 4, 8, 8),) for _ in range(2)]
    return qreg.explain(Between().eval(), batches[0], calibration=batches, progress=False)


def test_no_row_contradicts_itself(report: qreg.Report) -> None:
    assert contradictions(report) == []


def test_a_copy_in_float_is_not_int8_because_its_input_was(report: qreg.Report) -> None:
    rows = {each.name: each for each in report.operators}
    assert rows["clone"].place == "outside"  # the delegate has no copy to another layout
    assert rows["clone_2"].place == "gone"
    assert rows["clone_2"].reason.startswith("eliminated: ")


def test_an_operator_is_where_it_computes_and_not_where_a_constant_is_cast(
    report: qreg.Report,
) -> None:
    row = next(each for each in report.operators if each.operator == "aten.div.Tensor")
    assert (row.place, row.lowered_as, row.types) == ("float", "XNNDiv", "fp32, fp32 -> fp32")


def test_types_are_those_of_what_is_read_and_given(report: qreg.Report) -> None:
    row: Any = next(each for each in report.operators if each.name == "cumsum")
    assert (row.place, row.types) == ("outside", "float32 -> float32")
