"""Pins what the first lines of a report warn of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg import Registry, Report
from qreg.analysis.audit import Split
from qreg.report.cautions import cautions
from qreg.report.values import Operator, Sizes
from qreg.verification.latency import Timing


class Speech(nn.Module):
    """Nearly all of the work is in the recurrent layer, which the toy backend does not quantize."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(40, 128, batch_first=True), nn.Linear(128, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])  # type: ignore[no-any-return]


def operator(name: str, *, int8: bool, macs: int, **more: Any) -> Operator:
    return Operator(
        name, f"aten.{name}", "", "annotated" if int8 else "float", "", macs=macs, **more
    )


def report(*operators: Operator, sizes: Sizes | None = None, **more: Any) -> Report:
    return Report("toy", "Net", operators, sizes or Sizes(1000, 400), **more)


def test_float_layers_that_hold_most_of_the_work_are_said_in_the_second_line(
    registry: Registry,
) -> None:
    found = qreg.explain(
        Speech(), torch.zeros(1, 8, 40), backend="toy", registry=registry, progress=False
    )
    gru, head = 8 * 3 * 128 * (40 + 128), 128 * 12
    assert found.int8_share == pytest.approx(head / (gru + head))
    lines = str(found).splitlines()
    assert lines[1] == (
        "most of the work stays in float: 99.7 % of the multiply-accumulates, in gru"
    )
    assert "0.3 % of the multiply-accumulates" in str(found)


def test_work_that_runs_in_int8_gives_no_caution() -> None:
    assert (
        cautions(report(operator("a", int8=True, macs=3), operator("b", int8=False, macs=2))) == []
    )


def test_work_in_float_within_a_quantized_attention_is_named() -> None:
    attention = operator("attention", int8=True, macs=8, float_macs=6)
    found = report(attention, operator("a", int8=True, macs=2), operator("b", int8=False, macs=1))
    assert found.int8_share == 4 / 11
    assert cautions(found) == [
        "most of the work stays in float: 63.6 % of the multiply-accumulates, in attention, b"
    ]


def test_what_is_not_counted_is_named_with_the_reason() -> None:
    loop = operator("loop", int8=False, macs=0, uncounted="how often loop runs is not known")
    found = report(operator("a", int8=True, macs=3), loop)
    assert cautions(found) == [
        "not counted among the multiply-accumulates: loop (how often loop runs is not known)"
    ]
    assert "100.0 % of the counted multiply-accumulates" in str(found)
    assert found.as_dict()["uncounted"] == ["loop"]
    assert "not counted" in str(found).split("Operators\n")[-1]


def test_a_program_slower_than_float_is_said_with_the_operators_to_blame() -> None:
    split = Split(("softmax",), ("a",), ("b",))
    found = report(operator("a", int8=True, macs=3), timing=Timing(1.0, 1.15, 50), splits=(split,))
    assert str(found).splitlines()[1] == (
        "the quantized program is 15 % slower than float; "
        "float operators that cost conversions: softmax"
    )


def test_float_work_is_blamed_for_a_slow_program() -> None:
    rows = (operator("a", int8=True, macs=88), operator("b", int8=False, macs=2))
    found = report(*rows, operator("c", int8=False, macs=10), timing=Timing(1.0, 1.5, 50))
    assert cautions(found) == [
        "the quantized program is 1.5 times slower than float; "
        "12.0 % of the multiply-accumulates stay in float, in c, b"
    ]


def test_a_program_larger_than_the_float_parameters_is_said() -> None:
    found = report(operator("a", int8=True, macs=3), sizes=Sizes(1000, 1500))
    assert cautions(found) == [
        "the program (1,500 bytes) is 1.5 times larger than the float parameters (1,000 bytes)"
    ]
    assert cautions(report(sizes=Sizes(0, 1500))) == [
        "the program (1,500 bytes) is not comparable with the float parameters (0 bytes)"
    ]


def test_the_larger_branch_of_a_cond_is_said_to_count() -> None:
    found = report(operator("a", int8=True, macs=3), Operator("c", "cond", "", "float", "", macs=1))
    assert "75.0 % of the multiply-accumulates (of a cond, those of the larger branch)" in str(
        found
    )
