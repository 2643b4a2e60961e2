"""The bounds of a clamp are read the same from every operator that clamps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from qreg.graph.clamping import LARGEST, bounds_of
from qreg.graph.nodes import operator_name

CLAMPS: dict[str, tuple[Any, tuple[float, float] | None]] = {
    "relu": (torch.relu, (0.0, math.inf)),
    "relu6": (torch.ops.aten.relu6.default, (0.0, 6.0)),
    "hardtanh": (F.hardtanh, (-1.0, 1.0)),
    "hardtanh with bounds": (lambda x: F.hardtanh(x, -2, 3), (-2, 3)),
    "clamp": (lambda x: x.clamp(-1, 2.5), (-1, 2.5)),
    "clamp in place": (lambda x: (x + 0).clamp_(-1, 2.5), (-1, 2.5)),
    "clamp from below": (lambda x: x.clamp(0.5), (0.5, math.inf)),
    "clamp from above": (lambda x: x.clamp(max=0.5), (-math.inf, 0.5)),
    "tanh": (torch.tanh, None),
}


@pytest.mark.parametrize("name", CLAMPS)
def test_the_bounds_are_those_of_the_call(name: str, capture: Any) -> None:
    function, bounds = CLAMPS[name]

    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    *_, node, _ = capture(Model(), torch.randn(4)).graph.nodes
    assert bounds_of(node, operator_name(node.target)) == bounds
    if bounds is not None:
        finite = tuple(min(max(each, -LARGEST), LARGEST) for each in bounds)
        assert bounds_of(node, operator_name(node.target), LARGEST) == finite
        assert torch.equal(
            function(torch.linspace(-9, 9, 19)), torch.linspace(-9, 9, 19).clamp(*bounds)
        )
