"""What the tests of the plugin share: quantizing a small module on random inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import nn

    import qreg

Quantize = Callable[..., "qreg.Result"]


@pytest.fixture(scope="session")
def quantized() -> Quantize:
    """Quantizes a module on random inputs of the given shapes, from a fixed seed."""
    import torch

    import qreg

    def quantize(module: nn.Module, *shapes: tuple[int, ...], **options: Any) -> qreg.Result:
        torch.manual_seed(0)
        batches = [tuple(torch.randn(shape) for shape in shapes) for _ in range(3)]
        return qreg.quantize(
            module.eval(), batches[0], calibration=batches, backend="onnxruntime", **options
        )

    return quantize
