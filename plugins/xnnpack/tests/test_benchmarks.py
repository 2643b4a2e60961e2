"""Keeps the benchmarks alive, and proves on small models that the parameters are upstream's."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from scipy.stats import spearmanr
from torch import nn
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationConfig

import qreg
from qreg_xnnpack import XNNPACKQuantizer, get_symmetric_quantization_config

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import quantize

    return quantize


def wrapped(model: nn.Module) -> nn.Module:
    import models

    return models.FirstOutput(model).eval()


def resnet() -> nn.Module:
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    return transformers.ViTForImageClassification(config)


@pytest.mark.parametrize("make", [resnet, vit])
def test_the_parameters_are_those_of_upstreams_quantizer_and_observers(
    make: Any, benchmark: ModuleType
) -> None:
    torch.manual_seed(0)
    model = wrapped(make())
    sides, converted = benchmark.run(model, [torch.randn(1, 3, 32, 32) for _ in range(3)])
    found = benchmark.compare(*map(benchmark.parameters, converted))
    assert found.compared > 10
    assert found.different == []
    # Sums that only norms read stay in float.
    apart = ("dropout", "add", "layer_norm")
    assert all(any(each in place for each in apart) for place in found.upstream_only)
    assert len(found.qreg_only) <= 1  # the one after a dropout, named otherwise upstream
    for side in sides:
        assert min(side.seconds[stage] for stage in ("prepare", "calibrate", "convert")) > 0


OBSERVERS = {
    "input_activation": HistogramObserver,
    "output_activation": HistogramObserver,
    "weight": PerChannelMinMaxObserver,
    "bias": MinMaxObserver,
}


def with_torchaos(config: QuantizationConfig) -> QuantizationConfig:
    """The same config with torchao's own observers in it."""
    specs = {name: getattr(config, name) for name in OBSERVERS}
    return replace(
        config,
        **{
            name: replace(spec, observer_or_fake_quant_ctr=OBSERVERS[name].with_args(eps=2**-12))
            for name, spec in specs.items()
            if spec is not None
        },
    )


@pytest.mark.parametrize("make", [resnet, vit])
def test_every_observer_gives_the_parameters_of_torchaos(make: Any, benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    model = wrapped(make())
    batches = [torch.randn(1, 3, 32, 32) * scale for scale in (1, 2, 0.5)]
    program = torch.export.export(model, (batches[0],))
    ours = get_symmetric_quantization_config(is_per_channel=True)
    converted = []
    for config in (with_torchaos(ours), ours):
        prepared = benchmark.prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
        kinds = {type(module).__module__ for module in prepared.modules()}
        assert ("qreg.observers.observers" in kinds) == (config is ours)
        for batch in batches:
            prepared(batch)
        converted.append(benchmark.parameters(benchmark.convert_pt2e(prepared)))
    theirs, found = converted
    assert theirs.keys() == found.keys()
    assert len(found) > 10
    for key, (scale, zero_point) in found.items():
        assert torch.equal(scale, theirs[key][0]), key
        assert torch.equal(zero_point, theirs[key][1]), key


@pytest.mark.slow
def test_lowering_is_measured_three_ways_and_its_shortcuts_change_no_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import lowering

    monkeypatch.setattr(lowering, "ROUNDS", 1)
    found = lowering.seconds(lowering.converted(lowering.small(), torch.randn(1, 3, 8, 8)))
    assert found.keys() == lowering.WAYS.keys()
    assert min(found.values()) > 0


def test_waits_are_compared_with_a_checkout_that_parses_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import wait

    plain = wait.environment(BENCHMARKS.parent)
    hidden = wait.environment(BENCHMARKS.parent, wait.without_parser(tmp_path))
    check = "import ruamel.yaml.main as main; assert (main.CParser is None) is {}"
    assert wait.seconds(("-c", check.format(True)), hidden, BENCHMARKS) > 0
    assert wait.seconds(("-c", check.format(False)), plain, BENCHMARKS) > 0
    assert wait.row("x", {"qreg": 2.0, "before": 5.0})["before / qreg"] == 2.5


@pytest.mark.slow
def test_coverage_counts_and_times_both_configs_and_names_what_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import coverage
    import mobile

    torch.manual_seed(0)
    model = mobile.KeywordSpotter(width=8).eval()
    batches = [torch.randn(1, 1, 49, 10) for _ in range(2)]
    static, dynamic = coverage.measure(model, batches, rounds=2)
    assert (static["int8"], static["delegates"], static["outside"]) == (1, 1, 0)
    assert 0 < dynamic["int8"] < 1  # the depthwise convolutions stay in float
    assert min(row["ratio"] for row in (static, dynamic)) > 0
    (row,) = coverage.with_earlier(
        [{"model": "DS-CNN", **static}], [{"model": "DS-CNN", **static, "delegates": 3}]
    )
    assert row["delegates"] == "3 -> 1"


def test_brute_force_quantizes_one_pattern_and_leaves_the_rest_in_float(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same by scopes: a model of which one layer alone is quantized."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import sensitivity

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)
    )
    batches = [(torch.randn(16, 6),) for _ in range(4)]
    options = {"calibration": batches, "verify": False, "progress": False}
    result = qreg.quantize(model.eval(), batches[0], **options)
    measured = sensitivity.brute_force(result)
    modules = {each.pattern: each.module for each in result.decisions if "linear" in each.operator}
    for pattern, module in modules.items():
        quantizer = qreg.get_quantizer("xnnpack", None).set_module_name(module, "default")
        if module == "2":
            quantizer.set_module_name("3", "default")  # the ReLU of the pattern
        alone = qreg.quantize(model, batches[0], quantizer=quantizer, **options)
        with torch.no_grad():
            pairs = [(model(*batch), alone.converted(*batch)) for batch in result.samples]
        signal, noise = (
            sum(float(each.double().square().sum()) for each in values)
            for values in ([one for one, _ in pairs], [one - two for one, two in pairs])
        )
        assert measured[pattern] == pytest.approx(10 * math.log10(signal / noise), abs=0.1)


def test_the_rank_correlation_is_that_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import sensitivity

    pairs = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).tolist()
    expected = spearmanr(*zip(*pairs, strict=True)).statistic
    assert sensitivity.spearman(pairs) == pytest.approx(expected)
