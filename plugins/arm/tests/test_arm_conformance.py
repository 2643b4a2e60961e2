"""The plugin passes the suite that qreg asks of every plugin."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from qreg.testing import PluginConformance, Sample
from qreg_arm.config import CONFIGS
from qreg_arm.targets import TARGETS

torch.manual_seed(0)
SAMPLE = Sample(nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(3, 16))


class TestArm(PluginConformance):
    plugin = "arm"
    backend = "arm"
    samples: ClassVar = dict.fromkeys([*TARGETS, *(config.name for config in CONFIGS)], SAMPLE)
