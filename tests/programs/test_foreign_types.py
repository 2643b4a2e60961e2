"""Pins that a program is read where the types of its inputs and outputs are unknown."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qreg.programs.files import read_program
from qreg.programs.foreign_types import with_known_types

KNOWN = pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE
X = torch.randn(2, 4)


class Output:
    """A type of outputs that only its model knows, as those of transformers are."""

    def __init__(self, scores: Any, aux: Any) -> None:
        self.scores, self.aux = scores, aux


Boxes = namedtuple("Boxes", ["first", "second"])

pytree.register_pytree_node(
    Output,
    lambda value: ([value.scores, value.aux], ["scores", "aux"]),
    lambda values, _: Output(*values),
    serialized_type_name="a_model.Output",
)
pytree._register_namedtuple(Boxes, serialized_type_name="a_model.Boxes")


class Net(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return Output(Boxes(x + 1, {"twice": x * 2}), None)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.export.save(torch.export.export(Net(), (X,)), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def test_types_that_are_known_are_kept(saved: Path) -> None:
    assert with_known_types(saved) == saved
    found = read_program(saved).module()(X)
    assert isinstance(found, Output)
    assert isinstance(found.scores, Boxes)


@pytest.mark.parametrize(
    "unknown", [["a_model.Output"], ["a_model.Boxes"], ["a_model.Output", "a_model.Boxes"]]
)
def test_types_that_are_unknown_are_read_as_tuples(
    unknown: list[str], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()
    for name in unknown:
        monkeypatch.delitem(KNOWN, name)
    pytree.treespec_loads.cache_clear()
    found = read_program(saved).module()(X)
    outer = (found.scores, found.aux) if isinstance(found, Output) else found
    assert isinstance(found, Output) is ("a_model.Output" not in unknown)
    assert isinstance(outer[0], Boxes) is ("a_model.Boxes" not in unknown)
    first, second = outer[0]
    assert torch.equal(first, X + 1)
    assert torch.equal(second["twice"], X * 2)
    assert outer[1] is None
    assert saved.read_bytes() == before
