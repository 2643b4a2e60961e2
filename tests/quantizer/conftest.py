"""The graph that most tests of the quantizer annotate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from annotating import Capture
    from torch.fx import GraphModule


@pytest.fixture
def net(capture: Capture) -> GraphModule:
    import torch
    from annotating import Net

    return capture(Net(), torch.zeros(2, 3))
