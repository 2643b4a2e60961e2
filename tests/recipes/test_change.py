"""A change is read as it was written."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from qreg import Change
from qreg.recipes.change import read_change, written_change

VALUES = torch.tensor([[1.5, -0.0], [float("inf"), 1e-40]])


@pytest.mark.parametrize(
    "change",
    [
        Change("linear", constants={2: torch.ones(3, dtype=torch.bfloat16), 1: VALUES.T}),
        Change("add", range=(torch.tensor(-1.0), torch.tensor(2.0))),
        Change("relu", scale=VALUES[0], in_float="it is cheap"),
        Change("norm", scale=VALUES[0], readers=("linear", "linear_1")),
        Change("empty"),
    ],
    ids=lambda each: each.node,
)
def test_a_change_is_read_as_it_was_written(change: Change) -> None:
    plain, content = written_change(change)
    found = read_change(json.loads(json.dumps(plain)), content)
    plainly = found.node, found.in_float, found.readers
    assert plainly == (change.node, change.in_float, change.readers)
    assert [*found.constants] == [*change.constants]
    pairs = [*zip(found.constants.values(), change.constants.values(), strict=True)]
    pairs += [*zip(found.range or (), change.range or (), strict=True)]
    for pair in [*pairs, (found.scale, change.scale)]:
        assert _bits(pair[0]) == _bits(pair[1])


def test_a_change_of_an_earlier_version_is_for_all_readers() -> None:
    plain, content = written_change(Change("norm", scale=VALUES[0]))
    del plain["readers"]
    assert read_change(plain, content).readers == ()


def _bits(value: Tensor | None) -> object:
    if value is None:
        return None
    whole = value.contiguous().reshape(-1)
    return value.dtype, value.shape, whole.view(torch.uint8).tolist()
