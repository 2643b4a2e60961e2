"""The shortcuts through torch save time and nothing else: programs are the same byte for byte."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportGraphSignature

pytest.importorskip("transformers")

from architectures import ARCHITECTURES

import qreg
import qreg_xnnpack.lowering
from qreg.programs import lowering
from qreg_xnnpack.compat import dtype_check, export_pass, search_for_callers

PATCHES, SHORTCUTS = qreg_xnnpack.lowering.PATCHES, qreg_xnnpack.lowering.SHORTCUTS
WITHOUT = [each for each in PATCHES if each not in SHORTCUTS]


class Small(nn.Module):
    """A residual block of convolutions, attention over its pixels, and padding that is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8))
        self.norm, self.attend = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = self.stem(image)
        x = nn.functional.max_pool2d(nn.functional.relu(x + self.block(x)), 2)
        x = self.norm(x.flatten(2).mT)
        x = x + self.attend(x, x, x, key_padding_mask=mask, need_weights=False)[0]
        return self.feed(x).softmax(-1).mean(1)  # type: ignore[no-any-return]


def small() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 3, 8, 8), torch.tensor([[False, False, False, True]])


MODELS = {"a small model": (Small, small), **ARCHITECTURES}


@pytest.mark.parametrize(
    "name",
    ["a small model", *(pytest.param(each, marks=pytest.mark.sweep) for each in ARCHITECTURES)],
)
def test_programs_are_the_same_byte_for_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, batch = MODELS[name]
    torch.manual_seed(0)
    model, example = make().eval(), batch()
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


def test_the_stack_is_not_searched_for_a_deprecated_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, name = search_for_callers()
    search, found = getattr(owner, name), []
    monkeypatch.setattr(owner, name, lambda itself: (found.append(search(itself)), found[-1])[1])
    program = torch.export.export(nn.Linear(4, 4), (torch.randn(1, 4),))
    qreg.lower(program)
    assert found == []
    monkeypatch.setattr(qreg_xnnpack.lowering, "PATCHES", WITHOUT)
    qreg.lower(program)
    assert set(found) == {False}  # what the shortcut answers


def test_the_inputs_are_still_gone_through_for_each_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, calls = ExportGraphSignature.inputs_to_parameters, Counter[int]()
    read = property(lambda itself: (calls.update([0]), table.__get__(itself))[1])
    monkeypatch.setattr(ExportGraphSignature, "inputs_to_parameters", read)
    program = torch.export.export(nn.Sequential(*[nn.Linear(4, 4)] * 6), (torch.randn(1, 4),))
    qreg.lower(program)
    once = calls.total()
    monkeypatch.setattr(qreg_xnnpack.lowering, "PATCHES", WITHOUT)
    qreg.lower(program)
    assert once < (calls.total() - once) / 2


def counted(call: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    def noting(itself: Any, graph_module: Any) -> Any:
        calls[type(itself).__name__] += 1
        return call(itself, graph_module)

    return noting


def quantized(model: nn.Module, example: Any) -> bytes:
    return qreg.quantize(model, example, calibration=[example], verify=False).program
