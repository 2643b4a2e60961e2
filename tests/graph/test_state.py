"""Pins that a model with state, such as a cache, is left as it was, and compared from its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import qreg
from qreg import Registry
from qreg.graph.mutation import changed_buffers, keeping_state
from qreg.verification.runner import repeats_for


class Summing(nn.Module):
    """Adds what it has seen so far to what it gives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 4)
        self.seen = nn.Buffer(torch.zeros(4))
        self.scale = nn.Buffer(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.seen.add_(y.mean(0))
        return y * self.scale + self.seen


def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(8, 4) for _ in range(4)]


def test_the_buffers_that_change_are_known(capture: Any) -> None:
    graph = capture(Summing(), batches()[0])
    (changed,) = changed_buffers(graph)
    assert changed is graph.seen or torch.equal(changed, graph.seen)


def test_they_are_given_back_what_they_had(capture: Any) -> None:
    graph = capture(Summing(), batches()[0])
    with keeping_state(graph):
        graph(batches()[0])
        assert graph.seen.any()
    assert not graph.seen.any()


def test_a_model_with_state_is_verified_from_its_start_and_left_as_it_was(
    registry: Registry,
) -> None:
    model = Summing()
    result = qreg.quantize(
        model, batches()[0], backend="toy", calibration=batches(), registry=registry, progress=False
    )
    assert not model.seen.any()
    assert result.verification is not None
    assert result.verification.to_converted[0].sqnr > 100
    assert result.verification.to_float[0].sqnr > 25


def test_numerics_leave_the_state_as_it_was(registry: Registry) -> None:
    model = Summing()
    report = qreg.explain(
        model,
        batches()[0],
        backend="toy",
        calibration=batches(),
        registry=registry,
        numerics=True,
        progress=False,
    )
    # Both graphs start from nothing seen: what they sum up is alike.
    assert min(each.sqnr for each in report.worst if each.sqnr is not None) > 5
    assert not model.seen.any()


def test_a_buffer_that_is_written_through_a_view_is_given_back(
    capture: Callable[..., GraphModule],
) -> None:
    class Sliced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.zeros(2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.kept[:, :1] += x[:, :1]
            return x + self.kept

    model = capture(Sliced(), torch.ones(2, 3))
    with keeping_state(model):
        model(torch.ones(2, 3))
        assert model.kept.sum() == 2
    assert model.kept.sum() == 0
    assert repeats_for(model) == 0
