"""Configs that were made for other backends are rejected when they are chosen, or run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torchao.quantization import pt2e
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationConfig,
    QuantizationSpec,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    get_default_x86_inductor_quantization_config as x86_config,
)

import qreg
from qreg.configs import factory as specs
from qreg.errors import ConfigError

OWN = specs.config()
ACTIVATION, WEIGHT = OWN.input_activation, OWN.weight
UINT8 = {"dtype": torch.uint8, "quant_min": 0, "quant_max": 255}
INT16 = {"dtype": torch.int16, "quant_min": -32768, "quant_max": 32767}
INT32_BIAS = QuantizationSpec(
    torch.int32,
    pt2e.MinMaxObserver,
    quant_min=-(2**31),
    quant_max=2**31 - 1,
    qscheme=torch.per_tensor_symmetric,
)


def with_activation(**changes: Any) -> QuantizationConfig:
    changed = replace(ACTIVATION, **changes)
    return replace(OWN, input_activation=changed, output_activation=changed)


def with_weight(**changes: Any) -> QuantizationConfig:
    return replace(OWN, weight=replace(WEIGHT, **changes))


def with_dynamic(role: str, **changes: Any) -> QuantizationConfig:
    dynamic = specs.config(is_dynamic=True)
    return replace(dynamic, **{role: replace(getattr(dynamic, role), **changes)})


REFUSED = {
    "int4 activations": (
        with_activation(dtype=torch.int4, quant_min=-8, quant_max=7),
        "input_activation is torch.int4",
    ),
    "int4 weights": (
        with_weight(dtype=torch.int4, quant_min=-8, quant_max=7),
        "weight is torch.int4",
    ),
    "symmetric dynamic activations": (
        with_dynamic("input_activation", qscheme=torch.per_tensor_symmetric),
        "dynamic and of torch.per_tensor_symmetric",
    ),
    "dynamic activations with weights per tensor": (
        with_dynamic("weight", qscheme=torch.per_tensor_symmetric, ch_axis=None),
        "per_channel_symmetric for the delegate with dynamic activations",
    ),
    "activations per channel": (
        with_activation(qscheme=torch.per_channel_affine, ch_axis=1),
        "expected a per-tensor one",
    ),
    "x86 static": (x86_config(), "input activations are torch.uint8"),
    "x86 reduced range": (x86_config(reduce_range=True), "input activations are torch.uint8"),
    "x86 qat": (x86_config(is_qat=True), "input activations are torch.uint8"),
    "uint8 activations": (with_activation(**UINT8), "input activations are torch.uint8"),
    "uint8 outputs": (
        replace(OWN, output_activation=replace(ACTIVATION, **UINT8)),
        "output activations are torch.uint8",
    ),
    "int16 activations": (with_activation(**INT16), "activations are torch.int16"),
    "float16 activations": (
        with_activation(dtype=torch.float16, quant_min=None, quant_max=None),
        "activations are torch.float16",
    ),
    "uint8 weights": (with_weight(**UINT8), "weights are torch.uint8"),
    "int16 weights": (with_weight(**INT16), "weights are torch.int16"),
    "weights of axis 1": (with_weight(ch_axis=1), "per channel along axis 1"),
    "affine weights": (with_weight(qscheme=torch.per_channel_affine), "expected a symmetric one"),
    "int32 bias": (replace(OWN, bias=INT32_BIAS), "bias is quantized"),
    "int8 bias": (
        replace(OWN, bias=replace(INT32_BIAS, dtype=torch.int8, quant_min=-127, quant_max=127)),
        "bias is quantized",
    ),
    "shared activations": (
        replace(OWN, input_activation=SharedQuantizationSpec(torch.fx.Graph().placeholder("x"))),
        "input_activation is a SharedQuantizationSpec",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_the_delegate_cannot_run_is_refused_when_it_is_chosen(name: str) -> None:
    config, reason = REFUSED[name]
    with pytest.raises(ConfigError, match=reason):
        qreg.get_quantizer("xnnpack", config)
    quantizer = qreg.get_quantizer("xnnpack")
    with pytest.raises(ConfigError, match=reason):
        quantizer.set_module_name("head", config)


FIXED = FixedQParamsQuantizationSpec(torch.int8, 2**-5, 0, -128, 127, torch.per_tensor_affine)
RUN = {
    "x86 dynamic": (x86_config(is_dynamic=True), 30.0),
    "activations of a narrow range": (with_activation(quant_min=-64, quant_max=63), 30.0),
    "activations without a range": (with_activation(quant_min=None, quant_max=None), 30.0),
    "symmetric activations": (
        with_activation(qscheme=torch.per_tensor_symmetric, quant_min=-127),
        30.0,
    ),
    "fixed parameters": (replace(OWN, input_activation=FIXED, output_activation=FIXED), 20.0),
    "a bias in float": (
        replace(OWN, bias=QuantizationSpec(torch.float32, pt2e.PlaceholderObserver)),
        30.0,
    ),
    "weights of the whole range": (with_weight(quant_min=-128), 30.0),
    "weights of 4 bits": (with_weight(quant_min=-8, quant_max=7), 15.0),
}


@pytest.mark.parametrize("name", RUN)
def test_a_config_that_is_accepted_runs_in_int8_and_agrees_with_float(name: str) -> None:
    config, least = RUN[name]
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(16, 8)), torch.randn(4, 16)
    result = qreg.quantize(model, x, calibration=[x], config=config)
    assert [part.int8 for part in result.lowered.operators] == [True]
    assert result.verification.to_float[0].sqnr > least
