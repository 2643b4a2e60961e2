"""Pins what is read off a config: its mode, whether it is usable, and whether two are the same."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import pytest
import torch
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from qreg.configs.validation import check, equivalent, mode_of
from qreg.configs.weights import weight_config
from qreg.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "mode"),
    [("minmax", "static"), ("histogram", "static"), ("dynamic", "dynamic"), ("qat", "qat")],
)
def test_a_config_has_a_mode(name: str, mode: str, toy: ModuleType) -> None:
    (config,) = (each for each in toy.CONFIGS if each.name == name)
    assert mode_of(config.factory()) == config.mode == mode


def test_a_config_without_activations_is_of_weights_alone() -> None:
    assert mode_of(weight_config()) == "weight"
    assert mode_of(dataclasses.replace(weight_config(), is_qat=True)) == "qat"


def test_dynamic_activations_win_over_qat(toy: ModuleType) -> None:
    config = toy.int8("PlaceholderObserver", mode="dynamic")
    assert mode_of(dataclasses.replace(config, is_qat=True)) == "dynamic"


@pytest.mark.parametrize(
    ("role", "qscheme", "problem"),
    [
        ("input_activation", torch.per_channel_affine, "expected a per-tensor one"),
        ("output_activation", torch.per_channel_symmetric, "expected a per-tensor one"),
        ("weight", torch.per_tensor_affine, "expected a symmetric one"),
    ],
)
def test_a_scheme_that_no_backend_has_is_refused(
    role: str, qscheme: torch.qscheme, problem: str, toy: ModuleType
) -> None:
    config = toy.int8("MinMaxObserver")
    axis = 0 if "channel" in str(qscheme) else None
    spec = dataclasses.replace(getattr(config, role), qscheme=qscheme, ch_axis=axis)
    with pytest.raises(ConfigError, match=rf"{role} has qscheme {qscheme} \({problem}\)"):
        check(dataclasses.replace(config, **{role: spec}))


@pytest.mark.parametrize("role", ["input_activation", "output_activation", "weight"])
def test_a_dtype_without_arithmetic_is_refused(role: str, toy: ModuleType) -> None:
    config = toy.int8("MinMaxObserver")
    spec = dataclasses.replace(getattr(config, role), dtype=torch.int4)
    with pytest.raises(ConfigError, match=rf"{role} is torch\.int4 .*narrow quant_min"):
        check(dataclasses.replace(config, **{role: spec}))


def test_weights_per_channel_are_along_the_output_channels(toy: ModuleType) -> None:
    config = toy.int8("MinMaxObserver")
    weight = dataclasses.replace(config.weight, qscheme=torch.per_channel_symmetric, ch_axis=1)
    with pytest.raises(ConfigError, match=r"per channel along axis 1 \(expected 0"):
        check(dataclasses.replace(config, weight=weight))


@pytest.mark.parametrize("role", ["input_activation", "output_activation", "weight"])
def test_a_spec_that_refers_to_a_graph_is_for_annotators_alone(role: str, toy: ModuleType) -> None:
    shared = SharedQuantizationSpec(torch.fx.Graph().placeholder("x"))
    config = dataclasses.replace(toy.int8("MinMaxObserver"), **{role: shared})
    with pytest.raises(ConfigError, match=f"{role} is a SharedQuantizationSpec"):
        check(config)


def test_a_usable_config_comes_back(toy: ModuleType) -> None:
    config = toy.int8("MinMaxObserver")
    assert check(config) is config


def test_configs_of_equal_observers_are_equivalent_though_unequal(toy: ModuleType) -> None:
    one, other = toy.int8_of_its_own(), toy.int8_of_its_own()
    assert one != other
    assert equivalent(one, other)


def test_configs_of_other_observers_are_not_equivalent(toy: ModuleType) -> None:
    assert not equivalent(toy.int8("MinMaxObserver"), toy.int8("HistogramObserver"))
    assert not equivalent(toy.int8("MinMaxObserver"), toy.int8_of_its_own())


def test_configs_of_other_bounds_or_modes_are_not_equivalent(toy: ModuleType) -> None:
    config = toy.int8("MinMaxObserver")
    narrow = dataclasses.replace(config.weight, quant_min=-7, quant_max=7)
    assert not equivalent(config, dataclasses.replace(config, weight=narrow))
    assert not equivalent(config, dataclasses.replace(config, is_qat=True))
    assert not equivalent(config, dataclasses.replace(config, bias=config.weight))
