"""The shortcuts through torch save time and nothing else: programs are the same byte for byte."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from architectures import ARCHITECTURES

import qreg
import qreg_xnnpack.lowering
from qreg.programs import lowering
from qreg_xnnpack.compat import dtype_check, export_pass
from qreg_xnnpack.retracing import checked_once, traced_once

TWICE = (traced_once, checked_once)
WITHOUT = [each for each in qreg_xnnpack.lowering.PATCHES if each not in TWICE]
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
    monkeypatch.setattr(qreg_xnnpack.lowering, "PATCHES", WITHOUT)
    assert quantized(model, example) == quick


def test_passes_still_trace_unchanged_graphs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    base, calls = export_pass().__mro__[1], Counter[str]()
    monkeypatch.setattr(base, "call", counted(base.call, calls))
    program = torch.export.export(nn.Linear(4, 4), (torch.randn(1, 4),))
    qreg.lower(program)
    once = calls.total()
    monkeypatch.setattr(qreg_xnnpack.lowering, "PATCHES", WITHOUT)
    qreg.lower(program)
    assert once < calls.total() - once
    assert {"FuseActivationPass", "Conv1dUnsqueezePass"} < calls.keys()


def test_programs_are_still_checked_after_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name = dtype_check()
    check, checked = getattr(owner, name), []
    monkeypatch.setattr(owner, name, lambda module: (checked.append(module), check(module))[1])
    program = torch.export.export(nn.Linear(4, 4), (torch.randn(1, 4),))
    qreg.lower(program)
    once = len(checked)
    monkeypatch.setattr(qreg_xnnpack.lowering, "PATCHES", WITHOUT)
    qreg.lower(program)
    assert 0 < once < len(checked) - once


def counted(call: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    def noting(itself: Any, graph_module: Any) -> Any:
        calls[type(itself).__name__] += 1
        return call(itself, graph_module)

    return noting


def quantized(model: nn.Module, example: Any) -> bytes:
    return qreg.quantize(model, example, calibration=[example], verify=False).program
