"""What the tests of the pipeline share: a result, and a program with a dynamic dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from qreg import Registry, Result


@pytest.fixture(scope="session")
def result(registry: Registry) -> Result:
    from quantizing import quantize

    return quantize(registry)


@pytest.fixture(scope="session")
def program() -> ExportedProgram:
    from quantizing import Net, X
    from torch.export import Dim, export

    dynamic = ({0: Dim("batch", min=2, max=64)},)
    return export(Net().eval(), (X,), dynamic_shapes=dynamic)
