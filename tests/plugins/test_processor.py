"""Which config is the default where sums of 8-bit products saturate, and what is reported."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attrs import evolve
from torch import nn

import qreg
from qreg import Registry, SupportedConfig, hookimpl
from qreg.configs.factory import INT8, REDUCED_INT8, SYMMETRIC_INT8, UINT8, Codes, config
from qreg.configs.validation import saturates
from qreg.errors import ConfigError
from qreg.plugins import processor
from qreg.plugins.catalog import config_rows
from qreg.plugins.processor import SaturationWarning, has_vnni, overflows


@pytest.fixture(autouse=True)
def undetected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(processor.VNNI, raising=False)
    processor._detected.cache_clear()
    yield
    processor._detected.cache_clear()


@pytest.mark.parametrize(
    ("flags", "there"),
    [
        ("fpu avx2 avx512f avx512_vnni", True),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx2 avx512f avx512_4vnniw", False),  # 16-bit factors, of Knights Mill alone
        ("fpu avx2", False),
    ],
)
def test_the_kernel_tells_before_torch_is_imported(
    flags: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n", encoding="utf-8")
    monkeypatch.setattr(processor, "CPUINFO", listed)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.delitem(sys.modules, "torch")
    assert has_vnni() is there


@pytest.mark.parametrize("name", [None, "avx512_vnni", "avx_vnni"])
def test_torch_tells_where_it_is_imported(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"avx2": True, "avx512_vnni": False, "avx_vnni": False, "cpu_name": "a processor"}
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {**known, **({name: True} if name else {})}
    )
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert has_vnni() is (name is not None)


def test_torch_names_the_instructions_as_it_did_in_2_13() -> None:
    found = torch.cpu.get_capabilities()
    if found["architecture"] == "x86_64":
        assert found.keys() >= processor.INSTRUCTIONS
    else:
        assert has_vnni()


def test_other_architectures_do_not_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert has_vnni()


@pytest.mark.parametrize("value", ["0", "1"])
def test_the_environment_decides(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.VNNI, value)
    assert has_vnni() is (value == "1")


def test_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.VNNI, "yes")
    with pytest.raises(ConfigError, match=r"QREG_VNNI: the value is 'yes' \(expected 0 or 1\)"):
        has_vnni()


@pytest.mark.parametrize(
    ("activation", "weight", "largest"),
    [
        ((0, 255), (-128, 127), 2 * 255 * 128),
        ((-128, 127), (-127, 127), 2 * 255 * 127),
        ((0, 255), (-64, 63), 2 * 255 * 64),
        ((0, 255), (-65, 64), 2 * 255 * 65),
        ((0, 127), (-128, 127), 2 * 127 * 128),
    ],
)
def test_a_pair_of_products_overflows_beyond_16_bits(
    activation: tuple[int, int], weight: tuple[int, int], largest: int
) -> None:
    assert overflows(activation, weight) is (largest > torch.iinfo(torch.int16).max)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (config(), True),
        (config(activation=UINT8, is_dynamic=True), True),
        (config(is_qat=True, per_channel=False), True),
        (config(weight=REDUCED_INT8), False),
        (config(activation=Codes("uint8", 0, 127)), False),
        (dataclasses.replace(config(), weight=None), False),
        (dataclasses.replace(config(), input_activation=None), False),
        (config(activation=Codes("int16", -32768, 32767)), False),  # no 8-bit kernel
    ],
)
def test_a_config_saturates_by_its_ranges(given: object, expected: bool) -> None:
    assert saturates(given) is expected


def test_a_range_that_is_left_out_is_that_of_its_type() -> None:
    weight = dataclasses.replace(config().weight, quant_min=None, quant_max=None)
    assert saturates(dataclasses.replace(config(), weight=weight))


CONFIGS = (
    SupportedConfig("full", "8 bits", "static", lambda: config(weight=SYMMETRIC_INT8)),
    SupportedConfig("reduced", "7 bits", "static", lambda: config(weight=REDUCED_INT8)),
)


@pytest.fixture
def saturating(toy: ModuleType) -> Registry:
    """The toy backend with a reduced config."""

    @hookimpl
    def qreg_backends() -> list[qreg.Backend]:
        return [evolve(toy.BACKEND, default_config="full", reduced_config="reduced")]

    @hookimpl
    def qreg_supported_configs(backend: str) -> tuple[SupportedConfig, ...]:
        return CONFIGS if backend == "toy" else ()

    plugin = ModuleType("saturating")
    own = {"qreg_backends": qreg_backends, "qreg_supported_configs": qreg_supported_configs}
    vars(plugin).update({**vars(toy), **own})
    return Registry({"toy": plugin}, entry_points=False)


def explained(registry: Registry, **options: object) -> qreg.Report:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    return qreg.explain(model, torch.randn(2, 4), backend="toy", registry=registry, **options)


@pytest.mark.parametrize(("vnni", "default"), [("0", "reduced"), ("1", "full")])
def test_the_default_is_the_config_for_this_processor(
    vnni: str, default: str, saturating: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processor.VNNI, vnni)
    rows = config_rows(saturating, "toy")
    assert [row["config"] for row in rows if row["default"]] == [default]
    with warnings.catch_warnings():
        warnings.simplefilter("error", SaturationWarning)
        report = explained(saturating)
    assert report.configs == [default]
    assert ["7-bit weights: this processor has no VNNI" in note for note in report.notes] == [
        True
    ] * (vnni == "0")


@pytest.mark.parametrize("given", ["full", config(activation=INT8, eps=2**-10)])
def test_full_range_weights_warn_where_they_saturate(
    given: object, saturating: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processor.VNNI, "0")
    with pytest.warns(SaturationWarning, match="no VNNI.*Use 'reduced'") as caught:
        report = explained(saturating, config=given)
    assert len(caught) == 1
    assert "8-bit weights" in str(report)
    quantizer = qreg.get_quantizer("toy", registry=saturating)
    with pytest.warns(SaturationWarning):
        quantizer.set_module_name("0", given)


def test_full_range_weights_are_no_matter_where_they_are_summed_exactly(
    saturating: Registry, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SaturationWarning)
        monkeypatch.setenv(processor.VNNI, "1")
        assert explained(saturating, config="full").notes == ()
        monkeypatch.setenv(processor.VNNI, "0")
        assert explained(registry, config="minmax").notes == ()  # the backend does not saturate
