"""Attention is lowered as with executorch's patterns, exported only where they may match."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from executorch.backends.xnnpack._passes.convert_to_sdpa import ConvertToSDPAPass
from executorch.backends.xnnpack.partition.graphs import sdpa
from torch import Tensor, nn

import qreg
from qreg_xnnpack import lowering
from qreg_xnnpack.compat import without_attention_patterns


class Attends(nn.Module):
    """Attends to its input with a mask; ``safe`` gives zeros for rows that are masked."""

    def __init__(self, *, safe: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.safe, self.project = safe, nn.Linear(8, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.project(x)
        if not self.safe:
            return nn.functional.scaled_dot_product_attention(y, x, x, attn_mask=mask)
        scores = y @ x.transpose(-2, -1) + mask
        nothing = ~(~(scores == float("-inf"))).any(-1, keepdim=True)
        return torch.where(nothing, 0.0, scores.softmax(-1)) @ x


WITHOUT = [each for each in lowering.PATCHES if each is not without_attention_patterns]
SHAPES = (1, 2, 4, 8), (4, 4)


def test_a_graph_that_has_the_pattern_is_still_rewritten() -> None:
    for pattern in sdpa.get_graphs():
        graphs = copy.deepcopy(pattern), copy.deepcopy(pattern)
        with without_attention_patterns():
            ConvertToSDPAPass(None).call(graphs[0])
        ConvertToSDPAPass(None).call(graphs[1])
        assert str(graphs[0].graph) == str(graphs[1].graph)
        assert "scaled_dot_product_attention" in str(graphs[0].graph)


def test_patterns_are_not_exported_for_a_delegate(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError

    monkeypatch.setattr(sdpa, "get_graphs", fail)
    qreg.lower(Attends().eval(), tuple(map(torch.ones, SHAPES)))
    monkeypatch.setattr(lowering, "PATCHES", WITHOUT)
    with pytest.raises(qreg.errors.LoweringError):
        qreg.lower(Attends().eval(), tuple(map(torch.ones, SHAPES)))


@pytest.mark.parametrize("safe", [False, True])
def test_a_program_is_the_same_with_the_patterns(
    safe: bool, quantized: Callable[..., qreg.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Attends(safe=safe).eval()
    example = tuple(map(torch.ones, SHAPES))
    programs = [qreg.lower(model, example), quantized(model, *SHAPES)]
    monkeypatch.setattr(lowering, "PATCHES", WITHOUT)
    wanted = [qreg.lower(model, example), quantized(model, *SHAPES)]
    assert [each.program for each in programs] == [each.program for each in wanted]
