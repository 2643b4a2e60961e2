"""The installed example: its config passes qreg's suite, and runs in 4 bits in the runtime."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

import qreg
from qreg.testing import PluginConformance, Sample, annotate

CONFIG = "int4_static_per_channel"

torch.manual_seed(0)
MODEL = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 6, bias=False))
BATCHES = [(torch.randn(4, 64),) for _ in range(4)]


class TestInt4(PluginConformance):
    plugin = "int4"
    backend = "xnnpack"
    samples: ClassVar = {CONFIG: Sample(MODEL, BATCHES[0])}


def quantized(model: nn.Module, config: str) -> qreg.Result:
    return qreg.quantize(model, BATCHES[0], calibration=BATCHES, config=config, progress=False)


def test_the_program_multiplies_int8_by_4_bits() -> None:
    result = quantized(MODEL, CONFIG)
    linears = [each for each in result.lowered.operators if each.operator == "XNNFullyConnected"]
    assert [each.reads[:2] for each in linears] == [("qint8", "qcint4")] * 2
    assert all(each.int8 for each in linears)
    assert result.audit.defects == ()
    assert result.verification.to_converted[0].sqnr > 35


def test_its_weights_take_half_the_bytes_of_int8() -> None:
    """The programs differ by what the weights take less, 4 bits for each of 64 * 128 + 128 * 6."""
    int8 = CONFIG.replace("int4", "int8")
    saved = len(quantized(MODEL, int8).program) - len(quantized(MODEL, CONFIG).program)
    assert saved == pytest.approx((64 * 128 + 128 * 6) / 2, abs=256)


def test_what_the_delegate_cannot_do_in_4_bits_stays_in_float() -> None:
    image = torch.randn(1, 4, 8, 8)
    annotate(nn.Conv2d(4, 8, 3), image, config=CONFIG).assert_float("conv2d", because="4 bits")
    annotate(nn.Linear(7, 8), torch.randn(2, 7), config=CONFIG).assert_float(
        "linear", because="4 bits"
    )


def test_convolutions_in_int8_go_with_linears_in_4_bits() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    batches = [(torch.randn(1, 4, 8, 8),) for _ in range(4)]
    quantizer = qreg.get_quantizer("xnnpack", "int8_static_per_channel")
    quantizer.set_operator_type("aten.linear.default", CONFIG)
    result = qreg.quantize(model, batches[0], calibration=batches, quantizer=quantizer)
    weights = {each.operator: each.reads[1] for each in result.lowered.operators if each.reads[1:]}
    assert (weights["XNNConv2d"], weights["XNNFullyConnected"]) == ("qcint8", "qcint4")
    assert result.audit.defects == ()
