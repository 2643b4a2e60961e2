"""Observe the scores of a softmax without what a mask adds to them.

A mask adds a large negative number to the scores that it hides. One scale for all of them would
leave the other scores one quantized value. Below a depth under the maximum of its row, a score has
no weight, however low it is: quantization may saturate there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization.pt2e import MinMaxObserver

# Rows whose maximum is lower are hidden whole. executorch fills in -255 for minus infinity.
HIDDEN = -200.0


class ScoresObserver(MinMaxObserver):  # type: ignore[misc]
    """A ``MinMaxObserver`` that observes scores down to a depth under the maximum of their row.

    Rows are along the last axis. The lowest maximum counts, less ``depth``, if scores are lower.
    """

    def __init__(self, depth: float, **options: Any) -> None:
        super().__init__(**options)
        self.depth = depth

    def forward(self, x_orig: Tensor) -> Tensor:
        """Observe scores of shape (..., row), and return them."""
        super().forward(unhidden(x_orig.detach(), self.depth))
        return x_orig


def unhidden(scores: Tensor, depth: float) -> Tensor:
    """Return the ends of the range of scores of shape (..., row): no ends if all are hidden.

    A number without dimensions is not a score, but what hides one.
    """
    if not scores.dim() or not scores.numel():
        return scores.new_empty(0)
    tops = scores.amax(-1)
    tops = tops[tops > HIDDEN]
    if not tops.numel():
        return tops
    low, high = torch.aminmax(tops)
    return torch.stack([torch.maximum(low - depth, scores.min()), high])
