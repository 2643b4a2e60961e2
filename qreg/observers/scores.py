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


Ends = tuple[Tensor, Tensor]


class ScoresObserver(MinMaxObserver):  # type: ignore[misc]
    """A ``MinMaxObserver`` that observes scores down to a depth under the maximum of their row.

    Rows are along the last axis. The lowest maximum counts, less ``depth``, if scores are lower.
    Hidden rows count where all rows of all batches are hidden.
    """

    def __init__(self, depth: float, **options: Any) -> None:
        super().__init__(**options)
        self.depth = depth

    def forward(self, x_orig: Tensor) -> Tensor:
        """Observe scores of shape (..., row), and return them."""
        found = ends(x_orig.detach().to(self.min_val.dtype), self.depth)
        if found is not None:
            low, high = wider((self.min_val, self.max_val), found)
            self.min_val.copy_(low)
            self.max_val.copy_(high)
        return x_orig


def ends(scores: Tensor, depth: float) -> Ends | None:
    """Return the ends of the range of scores of shape (..., row), those of hidden rows if all are.

    A number without dimensions is not a score, but what hides one: None.
    """
    if not scores.dim() or not scores.numel():
        return None
    tops = scores.amax(-1)
    shown = tops[tops > HIDDEN]
    low, high = torch.aminmax(shown if shown.numel() else tops)
    return torch.maximum(low - depth, scores.min()), high


def wider(one: Ends, other: Ends) -> Ends:
    """Return the range of both ends; one of hidden rows alone does not count next to another."""
    if (one[1] > HIDDEN) != (other[1] > HIDDEN):
        return one if one[1] > HIDDEN else other
    return torch.minimum(one[0], other[0]), torch.maximum(one[1], other[1])
