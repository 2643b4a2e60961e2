"""Repeated blocks are told together, and what differs between them is not lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attrs import evolve
from torch import Tensor, nn

import qreg
from qreg import Registry, Report
from qreg.report.blocks import folded, stacks, starred
from qreg.report.rows import block_rows, operator_rows, part_rows
from qreg.report.values import Operator, Sizes

LINEAR, RELU = "aten.linear.default", "aten.relu.default"


def operator(name: str, module: str, target: str = LINEAR, **more: Any) -> Operator:
    values: dict[str, Any] = {"status": "annotated", "reason": "", "place": "int8", "shape": (1, 8)}
    return Operator(name=name, module=module, operator=target, **{**values, **more})


def block(number: int, **more: Any) -> list[Operator]:
    sqnr, time = 40.0 - 3 * number, 10.0 + number
    return [
        operator(f"up_{number}", f"model.layers.{number}.up", sqnr=sqnr, microseconds=time, **more),
        operator(f"relu_{number}", f"model.layers.{number}", RELU, sqnr=sqnr + 1, macs=0),
    ]


def report(operators: list[Operator]) -> Report:
    return Report("toy", "Model", tuple(operators), Sizes(1000, 300), delegates=1)


BLOCKS = [each for number in range(6) for each in block(number, macs=100)]
WHOLE = [
    operator("embedding", "model.embed", "aten.embedding.default", sqnr=50.0),
    *BLOCKS,
    operator("linear", "head", sqnr=20.0, macs=400),
]


def test_blocks_with_the_same_operators_are_a_stack() -> None:
    (found,) = stacks(WHOLE)
    assert (found.path, found.numbers) == ("model.layers", tuple(range(6)))
    assert [place[0].name for place in found.places] == ["up_0", "relu_0"]
    assert all(len(place) == 6 for place in found.places)


def test_three_blocks_are_listed_one_by_one() -> None:
    few = WHOLE[:7]
    assert stacks(few) == []
    assert folded(few) == [(each,) for each in few]


def test_a_block_of_other_shape_or_operators_stays_apart() -> None:
    wider = [evolve(each, shape=(1, 9)) for each in block(6)]
    longer = [*block(7), operator("more", "model.layers.7.more")]
    (found,) = stacks([*WHOLE, *wider, *longer])
    assert found.numbers == tuple(range(6))
    alone = [group for group in folded([*WHOLE, *wider, *longer]) if len(group) == 1]
    names = {group[0].name for group in alone}
    assert names == {"embedding", "linear", *(each.name for each in (*wider, *longer))}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("model.layers.12.attention.q", "model.layers.*.attention.q"),
        ("3.conv", "*.conv"),
        ("experts.1.stages.2.up", "experts.*.stages.2.up"),
        ("head", "head"),
        ("", ""),
    ],
)
def test_a_star_stands_for_the_number(module: str, expected: str) -> None:
    assert starred(module) == expected


def test_a_row_has_the_spread_and_the_sum_of_a_place() -> None:
    rows = {row["operator"]: row for row in operator_rows(report(WHOLE))}
    row = rows["up_0 and 5 like it"]
    assert row["module"] == "model.layers.*.up"
    assert (row["SQNR"], row["us"], row["macs"]) == ("25.0 dB to 40.0 dB", "10 to 15", "60.0 %")
    assert list(rows) == ["linear", "up_0 and 5 like it", "relu_0 and 5 like it", "embedding"]


def test_a_block_that_runs_elsewhere_is_counted() -> None:
    other = [evolve(each, place="float") if each.name == "up_3" else each for each in WHOLE]
    rows = {row["operator"]: row for row in operator_rows(report(other))}
    assert rows["up_0 and 5 like it"]["ends"] == "5 int8, 1 float"
    by_block = {row["block"]: row["ends"] for row in block_rows(report(other))}
    assert by_block["model.layers.3"] == "1 float, 1 int8"
    assert by_block["model.layers.2"] == "int8"


def test_each_block_has_the_noise_of_its_output() -> None:
    rows = block_rows(report(WHOLE))
    assert [row["SQNR of its output"] for row in rows] == [f"{41 - 3 * n}.0 dB" for n in range(6)]
    assert [row["lowest SQNR"] for row in rows] == [f"{40 - 3 * n}.0 dB" for n in range(6)]


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))
        self.head = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


def test_parts_have_the_bytes_of_their_constants(registry: Registry) -> None:
    """In int8, a weight has a byte for each element; biases stay in float."""
    batches = [torch.randn(2, 8) for _ in range(2)]
    found = qreg.explain(
        Layered(), batches[0], backend="toy", calibration=batches, registry=registry, progress=False
    )
    rows = part_rows(found)
    assert [row["part"] for row in rows] == ["layers (5 blocks)", "head"]
    assert [row["float bytes"] for row in rows] == [f"{5 * 4 * (64 + 8):,}", f"{4 * 32}"]
    assert [row["bytes"] for row in rows] == [f"{5 * (64 + 4 * 8)}", "32"]


def test_the_page_and_the_text_show_the_stack_once() -> None:
    from qreg.report.page import render

    found = report(WHOLE)
    broad = render(found).split('class="depth narrow"')[0]
    assert broad.count('class="block"') == 6  # the rings of the chart
    assert str(found).count("like it") == 2
    assert "Repeated blocks" in render(found)
    assert "Repeated blocks" not in render(report(WHOLE[:3]))
