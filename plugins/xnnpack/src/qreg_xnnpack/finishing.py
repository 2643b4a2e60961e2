"""Make a converted model compute what the delegate computes, so that the two can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg_xnnpack.dynamic_rows import in_rows
from qreg_xnnpack.group_scales import as_stored

if TYPE_CHECKING:
    from torch.fx import GraphModule


def finished(converted: GraphModule) -> GraphModule:
    """Write dynamic qparams for each row, and the scales of groups as they are stored."""
    return as_stored(in_rows(converted))
