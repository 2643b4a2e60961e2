"""The plugin passes the suite that is asked of every one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from cases_onnxruntime import CASES, IMAGE, TOKENS, config_of, conv
from torch import nn

from qreg.testing import PluginConformance, Sample
from qreg_onnxruntime.annotators import ANNOTATORS
from qreg_onnxruntime.config import supported_configs

# torchao's QAT passes take seconds for each sample, so only what folds in QAT is trained.
STATIC, DYNAMIC, QAT = config_of("static"), config_of("dynamic"), config_of("qat")
TRAINED = {
    "conv_bn": nn.Sequential(conv(), nn.BatchNorm2d(4)),
    "conv_bn_relu": nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU()),
}


def samples() -> Iterator[tuple[str, Sample]]:
    """One for each annotator, one for each config, one for the backend."""
    torch.manual_seed(0)
    for name in sorted(CASES.keys() & {annotator.name for annotator in ANNOTATORS}):
        module, shapes = CASES[name]
        configs = [STATIC, DYNAMIC] if name in ("linear", "addmm", "matmul_weight") else [STATIC]
        yield name, Sample(module, tuple(map(torch.randn, shapes)), configs)
    for name, module in TRAINED.items():
        yield name, Sample(module, torch.randn(IMAGE), QAT)
    layers = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softmax(-1))
    wide = Sample(nn.Linear(128, 8), torch.randn(2, 128))
    yield "linear_weight", wide
    yield "onnxruntime", Sample(layers, torch.randn(TOKENS))
    for config in supported_configs():
        sample = wide if config.mode == "weight" else Sample(layers, torch.randn(TOKENS))
        yield config.name, sample


class TestONNXRuntime(PluginConformance):
    plugin = "onnxruntime"
    backend = "onnxruntime"
    samples: ClassVar = dict(samples())
