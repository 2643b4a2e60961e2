"""The runtime's own measurements, by the operators of the annotated graph."""

from __future__ import annotations

import torch
from cases_onnxruntime import IMAGE, conv
from torch import nn

import qreg
from qreg.plugins.registry import installed


def test_each_operator_has_its_time() -> None:
    module = nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)).eval()
    batch = (torch.randn(IMAGE),)
    result = qreg.quantize(module, batch, calibration=[batch], backend="onnxruntime")
    profile = installed().backend("onnxruntime").value.profile
    times = profile(torch.export.export(result.converted, batch))
    assert {"conv2d", "linear"} <= set(times) <= {"conv2d", "flatten", "linear"}
    assert all(0 <= seconds < 1 for seconds in times.values())
