"""The shortcuts through torch save time and nothing else: programs are the same byte for byte."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from architectures import ARCHITECTURES

import qreg
from qreg.programs import lowering

QUICK = {"BERT", "ResNet of bottlenecks"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=() if each in QUICK else pytest.mark.sweep)
        for each in ARCHITECTURES
    ],
)
def test_programs_are_the_same_byte_for_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, batch = ARCHITECTURES[name]
    torch.manual_seed(0)
    model, example = make(), batch()
    quick = quantized(model, example)
    monkeypatch.setattr(lowering, "shortcuts", contextlib.nullcontext)
    assert quantized(model, example) == quick


def quantized(model: nn.Module, example: Any) -> bytes:
    return qreg.quantize(model, example, calibration=[example], verify=False).program
