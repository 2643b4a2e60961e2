"""What the tests of rows share: configs, small modules, and what is decided about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from upstream import (
    exported,
)

import qreg
from qreg_xnnpack import get_symmetric_quantization_config

STATIC = get_symmetric_quantization_config(is_per_channel=True)
DYNAMIC = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
IMAGE = torch.randn(1, 4, 8, 8)


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


class TwoConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def decided(quantizer: Any, module: nn.Module, *inputs: Tensor) -> dict[str, qreg.Decision]:
    annotated_in_place(exported(module, inputs), quantizer)
    return {decision.node: decision for decision in quantizer.decisions}


def annotated_in_place(graph_module: Any, quantizer: Any) -> Any:
    graph_module = quantizer.transform_for_annotation(graph_module)
    return quantizer.annotate(graph_module)


def batches(*shape: int, scales: tuple[float, ...] = (1.0,)) -> list[tuple[Tensor, ...]]:
    torch.manual_seed(0)
    return [tuple(torch.randn(shape) * scale for scale in scales) for _ in range(4)]


def agrees(result: qreg.Result, decibels: float = 35) -> bool:
    return all(each.sqnr > decibels for each in result.verification.to_converted)
