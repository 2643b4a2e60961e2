"""Models that were made in torch's inference mode, whose tensors never have gradients."""

from __future__ import annotations

import copy
import itertools

from torch import nn


def without_inference_tensors(model: nn.Module) -> nn.Module:
    """Return a model, or a copy with ordinary tensors if some are of inference mode.

    torch.export (2.13) cannot trace such parameters outside of that mode.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model) if any(each.is_inference() for each in tensors) else model
