"""The plugin passes the suite that is asked of every one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from cases_openvino import CASES, IMAGE, TOKENS, conv
from torch import nn

from qreg.plugins.processor import has_vnni
from qreg.testing import PluginConformance, Sample
from qreg_openvino.annotators import ANNOTATORS
from qreg_openvino.config import supported_configs

PRODUCTS = ("attention", "matmul")  # of activations
FULL = "int8_static_per_channel"  # for processors with VNNI
TRAINED = {
    "conv_bn": nn.Sequential(conv(), nn.BatchNorm2d(4)),
    "conv_bn_act": nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU()),
}


def samples() -> Iterator[tuple[str, Sample]]:
    """One for each annotator, one for each config, one for the backend."""
    torch.manual_seed(0)
    names = {annotator.name for annotator in ANNOTATORS}
    for name in sorted(names & CASES.keys()):
        module, shapes = CASES[name]
        configs = (FULL,) if name in PRODUCTS else ()
        yield name, Sample(module, tuple(map(torch.randn, shapes)), configs)
    for name, module in TRAINED.items():
        yield name, Sample(module, torch.randn(IMAGE))
    wide = Sample(nn.Linear(128, 8), torch.randn(2, 128))
    yield "linear_weight", wide
    layers = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.Softmax(-1))
    yield "openvino", Sample(layers, torch.randn(TOKENS))
    for config in supported_configs():
        sample = wide if config.mode == "weight" else Sample(layers, torch.randn(TOKENS))
        yield config.name, sample


class TestOpenVINO(PluginConformance):
    plugin = "openvino"
    backend = "openvino"
    samples: ClassVar = dict(samples())

    def test_it_runs_in_int8(self, annotator: str) -> None:
        if annotator in PRODUCTS and not has_vnni():
            pytest.skip("without VNNI, products of 8-bit activations saturate")
        super().test_it_runs_in_int8(annotator)
