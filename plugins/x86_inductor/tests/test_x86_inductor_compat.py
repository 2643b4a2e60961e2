"""The private names of torch and torchao are where they were."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import qreg_x86_inductor
from qreg_x86_inductor import compat


class Kernels(nn.Module):
    """One of each of the kernels that are known by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.joined = nn.Conv2d(16, 8, 1)
        self.head, self.last = nn.Linear(72, 24), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = functional.relu(x + self.third(self.second(x)))
        x = self.joined(torch.cat([functional.relu(x), self.second(x)], 1))
        x = functional.max_pool2d(functional.relu(x), 2).flatten(1)
        x = self.head(x)
        return x + self.last(x.sigmoid())


def final_nodes(monkeypatch: Any, model: nn.Module, shape: tuple[int, ...]) -> list[Any]:
    seen: list[Any] = []
    torch.compiler.reset()
    monkeypatch.setattr("qreg_x86_inductor.guard.guard", lambda graph: seen.extend(graph.nodes))
    monkeypatch.setattr("qreg_x86_inductor.guard._digest", lambda: b"seen")
    qreg_x86_inductor.compile(model)(torch.randn(shape))
    return seen


def test_the_kernels_have_the_names_that_are_known(
    converted: Callable[..., Any], monkeypatch: Any
) -> None:
    shape = (1, 8, 6, 6)
    nodes = final_nodes(monkeypatch, converted(Kernels(), shape), shape)
    fused = {n.target.__name__ for n in nodes if isinstance(n.target, functools.partial)}
    assert fused >= {"qconv", "qconv_binary", "qmaxpool2d", "qreshape", "qlinear", "qlinear_binary"}
    assert fused <= {*compat.KERNELS, compat.FLOAT_KERNEL}
    added = [node for node in nodes if compat.accumulator(node) is not None]
    assert [compat.kernel(node) for node in added] == [
        compat.KERNELS["qconv_binary"],
        compat.KERNELS["qlinear_binary"],
    ]


def test_a_float_convolution_names_what_it_adds_to(monkeypatch: Any) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + x.sigmoid()

    nodes = final_nodes(monkeypatch, Residual().eval(), (1, 8, 6, 6))
    (added,) = [node for node in nodes if compat.accumulator(node) is not None]
    assert added.target.__name__ == compat.FLOAT_KERNEL


def test_annotations_of_torchao_are_of_the_class_that_it_asks_for() -> None:
    found = compat.stand_in(True)
    assert isinstance(found, compat.annotation_class())
    assert (found._annotated, found._is_output_of_quantized_pattern) == (True, True)


def test_fusions_of_torch_and_torchao_skip_kernels_with_an_activation() -> None:
    found = compat.fusions()
    modules = {each.handler.__module__.partition(".")[0] for each in found}
    assert modules == {"torch", "torchao"}
    compat.leave_activations()
    activated = SimpleNamespace(kwargs={"postop_name": "relu"})
    assert not any(each.extra_check(activated) for each in found)
    assert all("_unless_activated" in each.extra_check.__qualname__ for each in found)
