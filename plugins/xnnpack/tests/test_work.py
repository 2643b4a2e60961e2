"""A run that was stopped between two layers gives the same file, byte for byte, when it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qreg
from qreg.algorithms import gptq
from qreg.pipeline import calibration
from qreg.plugins.registry import Registry

WIDTH, LAYERS, STOPPED_AFTER = 32, 3, 2


def quantized(**more: Any) -> bytes:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))).eval()
    batches = [torch.randn(16, WIDTH) for _ in range(4)]
    return qreg.quantize(
        model,
        batches[0],
        config="int4_dynamic_groupwise",
        calibration=batches,
        algorithms=["gptq"],
        verify=False,
        progress=False,
        **more,
    ).program


def test_a_run_that_was_stopped_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounding, rounded = gptq.rounding, list[int]()

    def counted(*given: Any, **named: Any) -> Any:
        rounded.append(len(rounded))
        if len(rounded) > STOPPED_AFTER:
            raise KeyboardInterrupt
        return rounding(*given, **named)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    expected = quantized()
    monkeypatch.setattr(calibration, "budget", lambda _: 2 * 4 * WIDTH**2)  # two layers at a time
    with monkeypatch.context() as patched:
        patched.setattr(gptq, "rounding", counted)
        with pytest.raises(KeyboardInterrupt):
            quantized(work=tmp_path)
    assert len([*tmp_path.iterdir()]) == STOPPED_AFTER
    assert quantized(work=tmp_path) == expected
    monkeypatch.setattr(Registry, "call_lower", stopped)
    assert quantized(work=tmp_path) == expected
