"""Configs beyond the limits of a runtime are rejected with the first reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import UINT8, Codes, config

INT8 = config()
FLOAT = QuantizationSpec(torch.float32, PlaceholderObserver)
DYNAMIC = config(is_dynamic=True)
SYMMETRIC_DYNAMIC = replace(
    DYNAMIC, input_activation=replace(DYNAMIC.input_activation, qscheme=torch.per_tensor_symmetric)
)
LIMITS = ConfigLimits("toy", whole_range=True)
STRICT = ConfigLimits(
    "toy",
    activations=("int8", "uint8"),
    scheme="per_channel_symmetric",
    weight_span=126,
    required=("input_activation", "weight"),
)


@pytest.mark.parametrize(
    ("limits", "given", "reason"),
    [
        (
            LIMITS,
            config(activation=UINT8),
            "its input activations are torch.uint8 (expected torch.int8 for toy)",
        ),
        (
            LIMITS,
            replace(INT8, output_activation=config(activation=UINT8).input_activation),
            "its output activations are torch.uint8 (expected torch.int8 for toy)",
        ),
        (
            LIMITS,
            config(activation=Codes("int8", -127, 127)),
            "its input activations are in [-127, 127] (expected [-128, 127] for toy)",
        ),
        (
            LIMITS,
            config(is_dynamic=True),
            "its input activations are dynamic (expected static ones for toy)",
        ),
        (
            ConfigLimits("toy", dynamic=("int8",)),
            SYMMETRIC_DYNAMIC,
            "its input activations are dynamic and of torch.per_tensor_symmetric (expected "
            "torch.per_tensor_affine for toy)",
        ),
        (
            ConfigLimits("toy", dynamic=("int8",), dynamic_scheme="per_channel_symmetric"),
            config(is_dynamic=True, per_channel=False),
            "its weights are of torch.per_tensor_symmetric (expected torch.per_channel_symmetric "
            "for toy with dynamic activations)",
        ),
        (
            LIMITS,
            config(weight=Codes("uint8", 0, 255)),
            "its weights are torch.uint8 (expected torch.int8 for toy)",
        ),
        (
            LIMITS,
            replace(INT8, bias=INT8.weight),
            "its bias is quantized (expected None, since toy quantizes it itself)",
        ),
        (
            STRICT,
            config(activation=Codes("int16", -(2**15), 2**15 - 1)),
            "its input activations are torch.int16 (expected torch.int8 or torch.uint8 for toy)",
        ),
        (
            STRICT,
            config(per_channel=False),
            "its weights are of torch.per_tensor_symmetric (expected torch.per_channel_symmetric "
            "for toy)",
        ),
        (
            STRICT,
            config(weight=Codes("int8", -8, 7)),
            "its weights are in [-8, 7] (expected 127 values for toy)",
        ),
        (
            STRICT,
            replace(INT8, input_activation=None),
            "its input activations are not quantized, which toy requires",
        ),
        (STRICT, replace(INT8, weight=None), "its weights are not quantized, which toy requires"),
        (
            ConfigLimits("toy", dynamic=("uint8",)),
            config(is_dynamic=True),
            "its input activations are torch.int8 (expected torch.uint8 for toy)",
        ),
    ],
)
def test_a_config_beyond_the_limits_has_a_reason(
    limits: ConfigLimits, given: QuantizationConfig, reason: str
) -> None:
    assert limits(given) == reason


@pytest.mark.parametrize(
    ("limits", "given"),
    [
        (LIMITS, INT8),
        (LIMITS, config(is_qat=True)),
        (LIMITS, replace(INT8, bias=FLOAT)),
        (LIMITS, QuantizationConfig(None, None, None, None)),
        (STRICT, config(activation=UINT8)),
        (STRICT, config(weight=Codes("int8", -64, 63))),
        (ConfigLimits("toy", dynamic=("uint8",)), config(activation=UINT8, is_dynamic=True)),
        (ConfigLimits("toy", unchecked=("bias",)), replace(INT8, bias=INT8.weight)),
        (ConfigLimits("toy", unchecked=("weight",)), config(weight=Codes("uint8", 0, 255))),
    ],
)
def test_a_config_within_the_limits_has_none(limits: ConfigLimits, given: Any) -> None:
    assert limits(given) is None


def test_a_range_that_is_left_to_the_type_is_whole() -> None:
    entering = replace(INT8.input_activation, quant_min=None, quant_max=None)
    assert LIMITS(replace(INT8, input_activation=entering)) is None


@pytest.mark.parametrize(
    ("limits", "given"),
    [
        (ConfigLimits("toy", dynamic=("int8",), symmetric_dynamic=True), SYMMETRIC_DYNAMIC),
        (ConfigLimits("toy", dynamic_scheme="per_channel_symmetric"), config(per_channel=False)),
    ],
)
def test_limits_of_dynamic_configs_are_for_these_alone(
    limits: ConfigLimits, given: QuantizationConfig
) -> None:
    assert limits(given) is None
