"""The stock plugin passes the suite that it asks of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from test_runs import CASES, IMAGE, ROW, Call, conv
from torch import nn

from qreg.testing import PluginConformance, Sample
from qreg_xnnpack.annotators import ANNOTATORS
from qreg_xnnpack.config import CONFIGS

TRAINED = {
    "conv_bn": nn.Sequential(conv(), nn.BatchNorm2d(8)),
    "conv_bn_relu": nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU()),
    "conv_transpose_bn": nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8)),
    "conv_transpose_bn_relu": nn.Sequential(
        nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
    ),
}


def samples() -> Iterator[tuple[str, Sample]]:
    """One for each annotator, one for each config, one for the backend."""
    torch.manual_seed(0)
    names = {annotator.name for annotator in ANNOTATORS}
    for name in sorted(names & CASES.keys()):
        module, shapes = CASES[name]
        yield name, Sample(module, tuple(map(torch.randn, shapes)))
    for name, module in TRAINED.items():
        yield name, Sample(module, torch.randn(IMAGE))
    pooled = nn.Sequential(conv(), nn.MaxPool2d(2), Call(lambda x: x.clamp(min=-0.1)))
    yield "clamp", Sample(pooled, torch.randn(IMAGE))
    linear = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), Call(lambda x: torch.softmax(x, -1)))
    table = Sample(nn.Embedding(32, 32), torch.randint(0, 32, (2, 5)))
    yield "embedding", table
    yield "xnnpack", Sample(linear, torch.randn(ROW))
    for config in CONFIGS:
        yield config.name, table if config.mode == "weight" else Sample(linear, torch.randn(ROW))
    for name in (config.name for config in CONFIGS if "dynamic_groupwise" in config.name):
        yield name, Sample(nn.Linear(256, 8), torch.randn(2, 256))


class TestXNNPACK(PluginConformance):
    plugin = "xnnpack"
    backend = "xnnpack"
    samples: ClassVar = dict(samples())
