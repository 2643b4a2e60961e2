"""What the tests of the Arm plugin share: quantizing a small module on random inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import qreg

Quantize = Callable[..., qreg.Result]


class Call(nn.Module):
    """A function of its inputs, with what modules it needs."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


@pytest.fixture
def call() -> type[Call]:
    return Call


@pytest.fixture(scope="session")
def quantized() -> Quantize:
    """Quantizes a module for a backend on random inputs of the given shapes, from a fixed seed."""

    def quantize(module: nn.Module, *shapes: tuple[int, ...], **options: Any) -> qreg.Result:
        torch.manual_seed(0)
        batches = [tuple(torch.randn(shape) for shape in shapes) for _ in range(4)]
        chosen = {"backend": "arm", "progress": False} | options
        if "quantizer" in options:
            del chosen["backend"]
        return qreg.quantize(module.eval(), batches[0], calibration=batches, **chosen)

    return quantize
