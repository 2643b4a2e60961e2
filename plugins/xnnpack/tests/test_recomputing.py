"""A lowering computes each fake result once, and decomposes once, without a change of the result.

``test_shortcuts.py`` compares the programs with those that are made without.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

import qreg
from qreg_xnnpack import lowering
from qreg_xnnpack.compat import edge_operator, edge_operator_class
from qreg_xnnpack.recomputing import computed_once, decomposed_once


class Counted:
    """Counts the calls of a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self.calls = 0
        method = getattr(owner, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            return method(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)


@pytest.mark.parametrize(
    ("shortcut", "owner", "name"),
    [
        (computed_once, edge_operator_class(), "__call__"),
        (decomposed_once, ExportedProgram, "run_decompositions"),
    ],
    ids=["operators", "decompositions"],
)
def test_executorch_still_repeats_what_the_shortcut_does_once(
    shortcut: Any, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = torch.export.export(nn.Linear(4, 4), (torch.randn(1, 4),))
    qreg.lower(program)  # executorch keeps the patterns that it exports in the first lowering
    counted = Counted(monkeypatch, owner, name)
    qreg.lower(program)
    once = counted.calls
    others = [each for each in lowering.PATCHES if each is not shortcut]
    monkeypatch.setattr(lowering, "PATCHES", others)
    qreg.lower(program)
    assert 0 < once < counted.calls - once


def test_equal_calls_on_fake_tensors_share_a_result() -> None:
    softmax = edge_operator("_softmax")
    with FakeTensorMode(), computed_once():
        x, other = torch.randn(2, 3), torch.randn(2, 3)
        assert softmax(x, 1, False) is softmax(x, 1, False)
        assert softmax(x, 1, False) is not softmax(x, 0, False)
        assert softmax(x, 1, False) is not softmax(other, 1, False)


def test_tensors_with_data_are_computed_each_time() -> None:
    x = torch.ones(2)
    with computed_once():
        first = edge_operator("relu")(x)
        x.mul_(3)
        assert edge_operator("relu")(x).tolist() == [3, 3]
    assert first.tolist() == [1, 1]


def test_shapes_that_depend_on_values_are_computed_each_time() -> None:
    mode = FakeTensorMode(shape_env=torch.fx.experimental.symbolic_shapes.ShapeEnv())
    with mode, computed_once():
        x = torch.randn(4)
        assert edge_operator("nonzero")(x) is not edge_operator("nonzero")(x)


def test_calls_that_are_traced_are_recorded_each_time() -> None:
    relu = edge_operator("relu")
    with computed_once():
        graph = make_fx(lambda x: relu(x) + relu(x), tracing_mode="fake")(torch.randn(2)).graph
    assert [node.name for node in graph.nodes if "relu" in node.name] == ["relu", "relu_1"]


def test_a_program_with_an_operator_of_the_table_is_decomposed_again() -> None:
    aten = torch.ops.aten
    program = torch.export.export(nn.Linear(4, 4), (torch.randn(1, 4),))
    with decomposed_once():
        made = program.run_decompositions({})
        assert made.run_decompositions({aten.relu.default: torch.relu}) is made
        again = made.run_decompositions()
        assert made.run_decompositions({}) is not made  # not the last result any more
    targets = [{node.target for node in each.graph.nodes} for each in (made, again)]
    assert aten.linear.default in targets[0] - targets[1]
