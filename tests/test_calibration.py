"""Pins calibration: the observers see every batch, and one that saw nothing is an error."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from itertools import count

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from qreg import Registry, calibrate, convert, get_quantizer
from qreg.calibration import feed
from qreg.errors import CalibrationError, InputError


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


@pytest.fixture
def prepared(capture: Callable[..., GraphModule], registry: Registry) -> GraphModule:
    return prepare_pt2e(capture(Sum(), torch.zeros(2)), get_quantizer("toy", registry=registry))


def test_the_observers_see_every_batch(prepared: GraphModule) -> None:
    batches = [(torch.tensor([-3.0, 0.0]),), (torch.tensor([0.0, 5.0]),)]
    assert calibrate(prepared, batches) == 2
    observers = [each for each in prepared.modules() if isinstance(each, MinMaxObserver)]
    ranges = [(float(each.min_val), float(each.max_val)) for each in observers]
    assert ranges == [(-3.0, 5.0), (-6.0, 10.0)]


def test_each_batch_is_reported(prepared: GraphModule) -> None:
    reported: list[None] = []
    feed(prepared, [(torch.zeros(2),)] * 3, lambda: reported.append(None))
    assert len(reported) == 3


def test_no_batch_is_an_error(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match="no batch; give it at least one"):
        calibrate(prepared, [])


class Pairs(Dataset[Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> Tensor:
        return torch.tensor(float(number))


class Names(Pairs):
    def __getitem__(self, number: int) -> dict[str, Tensor]:  # type: ignore[override]
        return {"x": super().__getitem__(number)}


LOADERS = {
    "a list of tuples": lambda: [(torch.tensor([0.0, 1.0]),), (torch.tensor([4.0, 5.0]),)],
    "a generator of tensors": lambda: (torch.tensor([0.0, n]) for n in (1.0, 5.0)),
    "a DataLoader of tensors": lambda: DataLoader(Pairs(), batch_size=2),
    "a DataLoader of tuples": lambda: DataLoader(TensorDataset(torch.arange(6.0)), batch_size=2),
    "a DataLoader of dicts": lambda: DataLoader(Names(), batch_size=2),
}


@pytest.mark.parametrize("name", LOADERS)
def test_batches_come_from_any_iterable(name: str, prepared: GraphModule) -> None:
    calibrate(prepared, LOADERS[name](), progress=False)
    observers = [each for each in prepared.modules() if isinstance(each, MinMaxObserver)]
    assert (float(observers[0].min_val), float(observers[0].max_val)) == (0.0, 5.0)


def test_no_more_batches_than_the_cap_are_asked_for(prepared: GraphModule) -> None:
    endless = ((torch.full((2,), float(number)),) for number in count())
    assert calibrate(prepared, endless, max_batches=3, progress=False) == 3
    assert float(next(endless)[0][0]) == 3


def test_a_cap_below_one_is_an_error(prepared: GraphModule) -> None:
    with pytest.raises(InputError, match="max_batches is 0: it must be at least 1"):
        calibrate(prepared, [], max_batches=0)


def test_no_batch_stays_in_memory(prepared: GraphModule) -> None:
    seen: list[weakref.ref[Tensor]] = []

    def batches() -> Iterator[Tensor]:
        for _ in range(5):
            batch = torch.randn(2)
            seen.append(weakref.ref(batch))
            yield batch

    calibrate(prepared, batches(), progress=False)
    assert [each() for each in seen] == [None] * 5


def test_labels_are_told_from_inputs(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match=r"batch 0: has 2 inputs.*Leave out.*labels"):
        calibrate(prepared, [(torch.zeros(2), torch.tensor(1))])


def test_a_batch_that_does_not_fit_is_named(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match=r"batch 1: input 'x': has shape \(3,\)"):
        calibrate(prepared, [torch.zeros(2), torch.zeros(3)])


def test_nothing_is_differentiated(prepared: GraphModule) -> None:
    x = torch.ones(2, requires_grad=True)
    calibrate(prepared, [(x,)])
    assert not any(buffer.requires_grad for buffer in prepared.buffers())


@pytest.mark.parametrize("config", ["minmax", "histogram"])
def test_converting_without_calibration_is_an_error(
    config: str, capture: Callable[..., GraphModule], registry: Registry
) -> None:
    quantizer = get_quantizer("toy", config, registry=registry)
    prepared = prepare_pt2e(capture(Sum(), torch.zeros(2)), quantizer)
    with pytest.raises(CalibrationError, match="the observer of x saw no value"):
        convert(prepared)


def test_converting_after_calibration_quantizes(prepared: GraphModule) -> None:
    calibrate(prepared, [(torch.tensor([-1.0, 1.0]),)])
    called = [str(node.target) for node in convert(prepared).graph.nodes]
    assert "quantized_decomposed.quantize_per_tensor.default" in called
