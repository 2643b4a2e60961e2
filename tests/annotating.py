"""Annotate a graph with some annotators of the toy backend, and read the decisions."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from attrs import evolve
from torch import Tensor, nn
from torch.fx import GraphModule

from qreg import (
    Annotator,
    Decision,
    Registry,
    RegistryQuantizer,
    get_quantizer,
)

Capture = Callable[..., GraphModule]
LINEAR, RELU, ADD = "aten.linear.default", "aten.relu.default", "aten.add.Tensor"


class Net(nn.Module):
    """A linear with a ReLU, an add with a ReLU, and a sigmoid that no annotator knows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        fitted = self.fc(x).relu()
        return (fitted + x).relu_().sigmoid()


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


def decide(quantizer: RegistryQuantizer, graph_module: GraphModule) -> dict[str, Decision]:
    quantizer.annotate(graph_module)
    return {decision.node: decision for decision in quantizer.decisions}


def bare(
    toy: ModuleType, *annotators: Annotator, name: str = "bare", strict: bool = True
) -> Registry:
    """A backend with the configs of the toy and these annotators only."""
    backend = evolve(toy.BACKEND, name=name)
    plugin = toy.Extension([backend], toy.CONFIGS, annotators, extends=name)
    return Registry({"maker": plugin}, entry_points=False, strict=strict)


def bare_quantizer(
    toy: ModuleType, *annotators: Annotator, config: str = "minmax", strict: bool = True
) -> Any:
    return get_quantizer("bare", config, registry=bare(toy, *annotators, strict=strict))
