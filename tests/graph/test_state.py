"""Pins that a model with state, such as a cache, is left as it was, and compared from its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import qreg
from qreg import Registry
from qreg.graph.mutation import changed_buffers, keeping_state
from qreg.verification.runner import repeats_for

Write = Callable[[Tensor], object]


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


class Counting(nn.Module):
    """Adds a layer of what it reads from a table, at a position that each call counts on."""

    def __init__(self, read: Callable[[Tensor, Tensor], Tensor], write: Write) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.write = read, write
        self.fc, self.of_table = nn.Linear(4, 4), nn.Linear(4, 4)
        self.table = nn.Parameter(torch.randn(4, 4))
        self.count = nn.Buffer(torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x) + self.of_table(self.read(self.table, self.count))
        self.write(self.count)
        return y


READS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "index": lambda table, count: table[(count % 4).reshape(1)],
    "embedding": lambda table, count: nn.functional.embedding(count % 4, table),
    "product": lambda table, count: table[0] * (count % 4 + 1),
    "view": lambda table, count: table[0] + count.reshape(1),
}
WRITES: dict[str, Write] = {
    "add_": lambda count: count.add_(1),
    "copy_": lambda count: count.copy_(count + 1),
    "put_": lambda count: count.put_(torch.tensor([0]), count.reshape(1) + 1),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("write", WRITES)
def test_what_is_computed_from_state_is_not_folded(
    read: str, write: str, registry: Registry
) -> None:
    model = Counting(READS[read], WRITES[write])
    result = qreg.quantize(
        model, batches()[0], backend="toy", calibration=batches(), registry=registry, progress=False
    )
    assert [each.status for each in result.decisions].count("annotated") == 3
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 25


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.noise = nn.Linear(4, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.fc(torch.rand_like(self.noise))
        return y


def test_random_values_are_not_folded(registry: Registry) -> None:
    x = batches()[0]
    quantizer = qreg.get_quantizer("toy", registry=registry)
    prepared = qreg.prepare(torch.export.export(Random().eval(), (x,)), quantizer)
    prepared(x)
    converted = qreg.convert(prepared)
    targets = [str(node.target) for node in converted.graph.nodes]
    assert targets.count("quantized_decomposed.quantize_per_tensor.default") == 4
    assert not torch.equal(converted(x), converted(x))
