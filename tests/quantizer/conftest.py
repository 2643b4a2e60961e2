"""The graph that most tests of the quantizer annotate."""

from __future__ import annotations

import pytest
import torch
from annotating import Capture, Net
from torch.fx import GraphModule


@pytest.fixture
def net(capture: Capture) -> GraphModule:
    return capture(Net(), torch.zeros(2, 3))
