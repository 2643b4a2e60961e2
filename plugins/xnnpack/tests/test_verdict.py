"""Pins the verdict on programs that run as they were quantized: is the result of any use?"""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from tabular import Tabular, features, quantize, sqnr
from torch import Tensor, nn

import qreg
from qreg.errors import QualityWarning
from qreg_xnnpack import get_symmetric_quantization_config


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


class Halves(nn.Module):
    """The halves of one output, of which one is a thousandth of the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.whole, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 2, 3)
        with torch.no_grad():
            self.whole.weight[:4] *= 1000

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        large, small = self.whole(x).relu().split(4, 1)
        return large, small, self.head(x)


def test_the_line_for_a_part_that_a_slice_picks_out_keeps_the_operator_with_the_scale() -> None:
    generator = torch.Generator().manual_seed(1)
    images = [(torch.randn(1, 3, 12, 12, generator=generator),) for _ in range(8)]
    with pytest.warns(QualityWarning, match=r"output 1 .* drops most at conv2d ") as caught:
        quantize(Halves(), images)
    line = re.search(r"quantizer\.set_.*$", str(caught[0].message))
    assert line is not None
    quantizer = qreg.get_quantizer("xnnpack")
    eval(line[0], {"quantizer": quantizer})
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        healed = quantize(Halves(), images, quantizer=quantizer)
    assert min(each.sqnr for each in healed.verification.to_float) > 30


def test_a_fair_network_is_verified_in_silence() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 100), nn.ReLU())
    batches = [(torch.randn(2, 16),) for _ in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", QualityWarning)
        result = quantize(net, batches)
    assert result.verification.good
    assert result.verification.to_float[0].worst_slice.sqnr > 20
