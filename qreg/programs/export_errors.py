"""Word an error of torch.export, and find the remedies that do not concern the example alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qreg.errors import ExportError
from qreg.graph.compat import CAUSAL_CHECK

# Sentences of torch 2.13 on its own options and functions, which come after the reason.
HINTS = (
    *("For more information, run with", "For extended logs", "For more debugging help"),
    *("If you suspect the guard", "For C++ stack trace", "The error above occurred when calling"),
)
WITHOUT = "It exports without dynamic_shapes: correct these."
CAUSAL = (
    "Without is_causal, nn.TransformerEncoder and nn.TransformerDecoder compare a mask with a "
    "causal one. Pass is_causal= to the encoder, or tgt_is_causal= to the decoder."
)
MOST_DIMENSIONS = 4


def reason(cause: Exception) -> str:
    """Return torch's reason for an error, without its hints on how to debug torch.

    >>> reason(RuntimeError("no kernel\\n\\nFor C++ stack trace, run with TORCH=1"))
    'no kernel'
    """
    lines = [line for line in str(cause).splitlines() if not line.startswith(HINTS)]
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip()


def remedy(
    cause: BaseException | None, example: Any, shapes: Any, export: Callable[..., object]
) -> str | None:
    """Return what to change other than the form of the example, or None.

    ``export`` takes an example and dynamic shapes, and raises ``ExportError``.
    """
    frames = traceback.extract_tb(cause.__traceback__) if cause else ()
    if any(frame.name == CAUSAL_CHECK for frame in frames):
        return CAUSAL
    if shapes is None or not _exports(export, example):
        return None
    for dimension in range(MOST_DIMENSIONS):
        larger = pytree.tree_map_only(Tensor, partial(_doubled, dimension=dimension), example)
        if _exports(export, larger, shapes):
            return (
                f"It exports with a size of 2 in dimension {dimension}: torch.export takes a size "
                "of 1 as fixed. Change example_inputs so."
            )
    return WITHOUT


def _doubled(value: Tensor, dimension: int) -> Tensor:
    alone = dimension < value.dim() and value.shape[dimension] == 1
    return torch.cat([value, value], dimension) if alone else value


def _exports(export: Callable[..., object], *given: Any) -> bool:
    try:
        export(*given)
    except ExportError:
        return False
    return True
