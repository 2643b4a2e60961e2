"""Pins the verdict on programs that run as they were quantized: is the result of any use?"""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qreg
from qreg.errors import QualityWarning
from qreg_xnnpack import get_symmetric_quantization_config

FEATURES = 12


class Tabular(nn.Module):
    """An MLP on raw features of several units, which its first layer normalises."""

    def __init__(self, decades: float = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
        )
        self.units = 10 ** (decades * torch.rand(FEATURES, generator=generator) - 2)
        first = self.layers[0]
        first.weight.data *= 2 / self.units
        first.bias.data -= first.weight.data @ (3 * self.units)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def features(seed: int = 1, count: int = 8, units: Tensor | None = None) -> list[tuple[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    units = Tabular().units if units is None else units
    return [(units * (3 + torch.randn(16, FEATURES, generator=generator)),) for _ in range(count)]


def quantize(model: nn.Module, batches: list[tuple[Tensor]], **options: Any) -> qreg.Result:
    return qreg.quantize(model.eval(), batches[0], calibration=batches, progress=False, **options)


def sqnr(model: nn.Module, result: qreg.Result, part: Any = ...) -> float:
    """The ratio of a part of the outputs in dB, computed from what the program gives."""
    with torch.no_grad():
        pairs = [(model(*each)[part], result.run(*each)[part]) for each in result.samples]
    signal = sum(float(wanted.square().sum()) for wanted, _ in pairs)
    noise = sum(float((wanted - got).square().sum()) for wanted, got in pairs)
    return 10 * math.log10(signal / noise)


@pytest.mark.parametrize("config", ["int8_static_per_channel", "int8_dynamic_per_channel"])
def test_raw_features_are_answered_and_the_line_in_the_answer_helps(config: str) -> None:
    with pytest.warns(QualityWarning) as caught:
        result = quantize(Tabular(), features(), config=config)
    found = result.verification
    assert found is not None
    assert not found.good
    assert found.to_float[0].sqnr == pytest.approx(sqnr(Tabular(), result), abs=0.1)
    assert found.to_float[0].sqnr < 10
    reference = torch.export.export(Tabular().eval(), features()[0])
    with pytest.warns(
        QualityWarning
    ):  # what quantize accepts verify accepts, with the same verdict
        again = qreg.verify(result.program, reference, result.samples)
    assert again.to_float[0].sqnr == pytest.approx(found.to_float[0].sqnr, abs=0.1)

    (message,) = [str(each.message) for each in caught if each.category is QualityWarning]
    line = re.search(r"quantizer\.set_.*$", message)
    assert line is not None
    quantizer = qreg.get_quantizer("xnnpack", config)
    eval(line[0], {"quantizer": quantizer})
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        healed = quantize(Tabular(), features(), quantizer=quantizer)
    assert sqnr(Tabular(), healed) > 25


NARROW = {
    "per tensor": {},
    "weights of 7 bits, per tensor": {"weight_qmin": -63, "weight_qmax": 63},
    "activations of 7 bits": {"is_per_channel": True, "act_qmin": -64, "act_qmax": 63},
}


@pytest.mark.parametrize("name", NARROW)
def test_the_verdict_on_raw_features_is_about_float_under_every_config(name: str) -> None:
    """Also where the converted model has more noise than signal, and cannot be a reference."""
    model = Tabular(decades=5)
    batches = features(units=model.units)
    with pytest.warns(QualityWarning, match=r"in float: quantizer\.set_"):
        result = quantize(model, batches, config=get_symmetric_quantization_config(**NARROW[name]))
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr < 10
    reference = torch.export.export(model, batches[0])
    with pytest.warns(QualityWarning):
        again = qreg.verify(result.program, reference, result.samples)
    assert again.verdict == result.verification.verdict == "poor"


class Detector(nn.Module):
    """Boxes in pixels and scores below 1, joined by a sum, which needs one scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.boxes, self.scores = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).relu()
        boxes = nn.functional.pad(self.boxes(y) * 500, (0, 0, 0, 0, 0, 2))
        return boxes + nn.functional.pad(self.scores(y).sigmoid(), (0, 0, 0, 0, 4, 0))


def test_scores_lost_beside_boxes_are_answered_although_the_whole_is_near() -> None:
    generator = torch.Generator().manual_seed(1)
    images = [(torch.randn(1, 3, 12, 12, generator=generator),) for _ in range(8)]
    with pytest.warns(QualityWarning, match=r"along axis 1 \(expected at least 10 dB\)"):
        result = quantize(Detector(), images)
    (output,) = result.verification.to_float
    assert output.sqnr == pytest.approx(sqnr(Detector(), result), abs=0.1)
    assert output.sqnr > 30
    assert output.worst_slice.index in (4, 5)
    lost = sqnr(Detector(), result, (slice(None), output.worst_slice.index))
    assert output.worst_slice.sqnr == pytest.approx(lost, abs=0.1)


def test_a_fair_network_is_verified_in_silence() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 100), nn.ReLU())
    batches = [(torch.randn(2, 16),) for _ in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        result = quantize(net, batches)
    assert result.verification.good
    assert result.verification.to_float[0].worst_slice.sqnr > 20
