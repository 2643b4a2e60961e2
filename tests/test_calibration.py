"""Pins calibration: the observers see every batch, and one that saw nothing is an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

from qreg import Registry, convert, get_quantizer
from qreg.calibration import calibrate
from qreg.errors import CalibrationError


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
    calibrate(prepared, [(torch.zeros(2),)] * 3, lambda: reported.append(None))
    assert len(reported) == 3


def test_no_batch_is_an_error(prepared: GraphModule) -> None:
    with pytest.raises(CalibrationError, match="no batch; give it at least one"):
        calibrate(prepared, [])


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
