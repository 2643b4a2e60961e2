"""The plugin passes the suite that every plugin passes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from qreg.testing import PluginConformance, Sample

torch.manual_seed(0)
IMAGE = Sample(
    nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 24),
    ).eval(),
    (torch.randn(2, 3, 8, 8),),
)
ROWS = Sample(
    nn.Sequential(nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 20)).eval(),
    (torch.randn(4, 32),),
)


class TestX86Inductor(PluginConformance):
    plugin = "x86_inductor"
    backend = "x86_inductor"
    samples: ClassVar = {
        "x86_inductor": IMAGE,
        "int8_static": IMAGE,
        "int8_static_reduced": ROWS,
        "int8_dynamic": ROWS,
        "int8_dynamic_reduced": ROWS,
        "int8_qat": IMAGE,
        "int8_qat_reduced": ROWS,
    }
