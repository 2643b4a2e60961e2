"""Reports name the types that operators run on: int16 activations are not called int8."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import qreg


def test_a_report_of_int16_activations_names_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 4))
    batches = [(torch.randn(1, 3, 8, 8),) for _ in range(2)]
    report = qreg.explain(
        model.eval(), batches[0], backend="arm", config="int16_static_per_channel"
    )
    precisions = {each.operator: each.precision for each in report.operators}
    assert precisions == {
        "aten.conv2d.default": "a16w8",
        "aten.max_pool2d.default": "int16",
        "aten.flatten.using_ints": "int16",
        "aten.linear.default": "a16w8",
    }
    assert "4 of 4 operators in a16w8 and int16" in str(report)
    assert "int8 " not in str(report)
    assert report.as_dict()["precisions"] == ["a16w8", "int16"]
    report.save_html(tmp_path / "report.html")
    assert "Operators in a16w8 and int16" in (tmp_path / "report.html").read_text("utf-8")
