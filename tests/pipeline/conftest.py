"""What the tests of the pipeline share: a result, and a program with a dynamic dimension."""

from __future__ import annotations

import pytest
import torch
from quantizing import Net, X, quantize
from torch.export import Dim

from qreg import Registry, Result


@pytest.fixture(scope="session")
def result(registry: Registry) -> Result:
    return quantize(registry)


@pytest.fixture(scope="session")
def program() -> torch.export.ExportedProgram:
    dynamic = ({0: Dim("batch", min=2, max=64)},)
    return torch.export.export(Net().eval(), (X,), dynamic_shapes=dynamic)
