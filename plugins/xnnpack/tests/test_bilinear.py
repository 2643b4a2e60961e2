"""Bilinear resizing is lowered as executorch lowers it with the patterns that it is spared from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from executorch.backends.xnnpack.partition.graphs import bilinear_2d
from torch import Tensor, nn
from torch.nn import functional as F

import qreg
from qreg_xnnpack import lowering


class Resized(nn.Module):
    """Resizes in both ways between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        larger = F.interpolate(self.first(x), scale_factor=2.0, mode="bilinear")
        return self.second(F.interpolate(larger, (20, 20), mode="bilinear", align_corners=True))


def test_a_pattern_of_executorchs_is_the_operator_that_replaces_it() -> None:
    for pattern in bilinear_2d.get_graphs_dict():
        called = [node.target for node in pattern.graph.nodes if node.op == "call_function"]
        assert [each.name() for each in called] == ["aten::upsample_bilinear2d.vec"]


def test_a_program_is_the_same_without_the_patterns(
    quantized: Callable[..., qreg.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (1, 3, 8, 8)
    programs = [qreg.lower(Resized().eval(), torch.ones(shape)), quantized(Resized(), shape)]
    monkeypatch.setattr(lowering, "without_bilinear_patterns", nullcontext)
    wanted = [qreg.lower(Resized().eval(), torch.ones(shape)), quantized(Resized(), shape)]
    assert [each.program for each in programs] == [each.program for each in wanted]
    assert any("Bilinear" in each.operator for each in programs[0].operators)
