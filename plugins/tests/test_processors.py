"""With and without VNNI: the default config, the warning, the report, and the right numbers.

The 7-bit program is right on both kinds of processor, so each is run wherever the tests are.
Configs of weights alone have float activations, and no reduced variant.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import qreg
from qreg.configs.validation import saturates
from qreg.plugins.processor import VNNI, SaturationWarning
from qreg.plugins.registry import Registry, installed

SATURATING = [n for n in ("onnxruntime", "openvino", "x86_inductor") if n in installed().backends()]
KEEPING = [name for name in ("onnxruntime", "openvino") if name in SATURATING]
EXACT = [name for name in ("xnnpack", "arm") if name in installed().backends()]


def convolution() -> tuple[nn.Module, list[tuple[torch.Tensor]]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval()
    return module, [(torch.randn(1, 3, 16, 16),) for _ in range(8)]


def value(backend: str, name: str) -> Any:
    return installed().config(backend, name).factory()


def configs_of(registry: Registry, backend: str) -> dict[str, qreg.SupportedConfig]:
    """The configs that quantize activations."""
    found = {name: each.value for name, each in registry.configs(backend).items()}
    return {name: each for name, each in found.items() if each.mode != "weight"}


@pytest.mark.parametrize("backend", SATURATING)
def test_the_default_of_each_mode_is_for_the_processor(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vnni in "01":
        monkeypatch.setenv(VNNI, vnni)
        default = value(backend, "default")
        assert saturates(default) is (vnni == "1")
        assert (default.weight.quant_min == -64) is (vnni == "0")
        first: dict[str, Any] = {}
        for each in configs_of(Registry(), backend).values():
            first.setdefault(each.mode, each.factory())
        assert {saturates(each) for each in first.values()} == {vnni == "1"}


@pytest.mark.parametrize("backend", SATURATING)
def test_each_config_has_a_reduced_one_of_the_same_mode(backend: str) -> None:
    configs = configs_of(installed(), backend)
    full = {name: each for name, each in configs.items() if saturates(each.factory())}
    assert full
    assert configs.keys() == full.keys() | {f"{name}_reduced" for name in full}
    for name, each in full.items():
        reduced = configs[f"{name}_reduced"]
        assert reduced.mode == each.mode
        weight = reduced.factory().weight
        assert (weight.quant_min, weight.quant_max) == (-64, 63)
        assert weight.qscheme == each.factory().weight.qscheme


@pytest.mark.parametrize("backend", SATURATING)
def test_full_range_weights_warn_where_they_saturate(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = configs_of(installed(), backend)
    names = [name for name in configs if not name.endswith("_reduced")]
    for given in (*names, value(backend, names[0])):
        monkeypatch.setenv(VNNI, "0")
        with pytest.warns(SaturationWarning, match=f"saturate in {backend}.*no VNNI.*_reduced'"):
            qreg.get_quantizer(backend, given)
        monkeypatch.setenv(VNNI, "1")
        with warnings.catch_warnings():
            warnings.simplefilter("error", SaturationWarning)
            qreg.get_quantizer(backend, given)


@pytest.mark.parametrize("backend", EXACT)
def test_a_backend_that_sums_in_32_bits_is_the_same_on_every_processor(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VNNI, "0")
    assert value(backend, "default").weight.quant_max == 127
    with warnings.catch_warnings():
        warnings.simplefilter("error", SaturationWarning)
        assert qreg.get_quantizer(backend, value(backend, "default")).notes == ()


@pytest.mark.parametrize("backend", SATURATING)
def test_the_reduced_program_is_right_on_every_processor(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VNNI, "0")
    module, batches = convolution()
    result = qreg.quantize(module, batches[0], backend=backend, calibration=batches)
    report = result.report
    assert report.counts["int8"] == 1
    assert not report.defects
    assert report.configs[0].endswith("_reduced")
    assert "7-bit weights: this processor has no VNNI" in str(report)
    assert result.verification is not None
    assert result.verification.to_float[0].sqnr > 30
    assert result.verification.to_converted[0].sqnr > 35


class Positive(nn.Module):
    """Convolutions whose sums of products of whole 8 bits would overflow, on positive images."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.doubled = nn.Conv2d(8, 16, 3, groups=8)
        for each in (self.depthwise, self.doubled):
            each.weight.data.abs_()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.depthwise(x), self.doubled(x)


@pytest.mark.parametrize("backend", KEEPING)
def test_a_depthwise_convolution_keeps_8_bits_and_is_exact_on_every_processor(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VNNI, "0")
    torch.manual_seed(0)
    module, batch = Positive().eval(), (torch.rand(2, 8, 9, 9),)
    result = qreg.quantize(module, batch, backend=backend, calibration=[batch], progress=False)
    assert not result.report.defects
    assert result.verification is not None
    assert all(found.sqnr > 55 for found in result.verification.to_converted)
    ranges = {
        (node.args[4], node.args[5])
        for node in result.converted.graph.nodes
        if "dequantize_per_channel" in str(node.target)
    }
    assert ranges == {(-127, 127), (-64, 63)}  # depthwise; two outputs for each channel
