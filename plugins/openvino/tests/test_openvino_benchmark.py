"""The benchmark's share of int8, read from a compiled model, is that of the report."""

from __future__ import annotations

from pathlib import Path

import openvino
import pytest
import torch
from torch import nn

import qreg

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def test_the_share_counted_in_a_compiled_model_is_that_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from real.kernels import int8_share

    convolutions = nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4), nn.Flatten()
    module = nn.Sequential(*convolutions, nn.Linear(128, 6), nn.Linear(6, 5)).eval()
    batch = (torch.randn(2, 4, 8, 8),)
    for opted_out in ("0", "4"):
        quantizer = qreg.get_quantizer("openvino").set_module_name(opted_out, None)
        result = qreg.quantize(module, batch, calibration=[batch], quantizer=quantizer)
        result.save(tmp_path / "model.xml")
        model = openvino.Core().read_model(tmp_path / "model.xml")
        model.reshape(list(batch[0].shape))
        share = int8_share(model, openvino.compile_model(model, "CPU"))
        assert 0 < share < 1
        assert share == pytest.approx(result.report.int8_share)


class Denoiser(nn.Module):
    """OpenVINO computes the difference in the convolution, and renames that after a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.noise = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.noise(self.first(x).relu())


@pytest.mark.parametrize("kept", [False, True])
def test_a_convolution_that_was_renamed_counts(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from real.kernels import int8_share

    module, batch = Denoiser().eval(), (torch.randn(1, 3, 8, 8),)
    quantizer = qreg.get_quantizer("openvino")
    if kept:
        quantizer.set_module_name("noise", None)
    result = qreg.quantize(module, batch, calibration=[batch], quantizer=quantizer)
    result.save(tmp_path / "model.xml")
    model = openvino.Core().read_model(tmp_path / "model.xml")
    share = int8_share(model, openvino.compile_model(model, "CPU"))
    assert share == pytest.approx(result.report.int8_share)
    assert (share < 1) == kept
