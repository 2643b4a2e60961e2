"""Validate quantization configs, determine their modes, and compare them."""

from __future__ import annotations

from typing import Any

import torch
from torchao.quantization.pt2e.quantizer import (
    FixedQParamsQuantizationSpec,
    QuantizationConfig,
    QuantizationSpec,
)

from qreg.errors import ConfigError
from qreg.graph.compat import made_by
from qreg.plugins.processor import overflows
from qreg.plugins.types.backend import Mode

ROLES = ("input_activation", "output_activation", "weight", "bias")
AFFINE = (
    torch.per_tensor_affine,
    torch.per_channel_affine,
    torch.per_channel_affine_float_qparams,
)
PER_TENSOR = (torch.per_tensor_affine, torch.per_tensor_symmetric, None)


def mode_of(config: QuantizationConfig) -> Mode:
    """Return the mode of a config; dynamic activations take precedence over QAT, as in torchao.

    The mode is ``"weight"`` without QAT if no activation is quantized.
    """
    if config.input_activation is not None and config.input_activation.is_dynamic:
        return "dynamic"
    if config.is_qat:
        return "qat"
    activations = (config.input_activation, config.output_activation)
    return "weight" if activations == (None, None) else "static"


def check(config: object) -> QuantizationConfig:
    """Return the config if it is valid.

    Raises ``ConfigError`` for errors that torchao would find only in the middle of prepare.
    """
    if not isinstance(config, QuantizationConfig):
        raise ConfigError(
            f"{config!r} is not a quantization config (expected a name, a QuantizationConfig, or "
            "None)"
        )
    for role in ROLES:
        _check_kind(role, getattr(config, role))
        _check_range(role, getattr(config, role))
    for role in ROLES[:2]:
        spec = getattr(config, role)
        if spec is not None and spec.qscheme not in PER_TENSOR:
            raise ConfigError(f"{role} has qscheme {spec.qscheme} (expected a per-tensor one)")
    if config.weight is not None and config.weight.qscheme in AFFINE:
        raise ConfigError(f"weight has qscheme {config.weight.qscheme} (expected a symmetric one)")
    _check_axis(config.weight)
    return config


def _check_axis(weight: Any) -> None:
    axis = getattr(weight, "ch_axis", None)
    if getattr(weight, "qscheme", None) == torch.per_channel_symmetric and axis not in (0, None):
        raise ConfigError(
            f"weight is per channel along axis {axis} (expected 0, which stands for the output "
            "channels of transposed convolutions and matmuls too)"
        )


def _check_kind(role: str, spec: Any) -> None:
    """Raise for a spec that refers to nodes of one graph: a config applies to any operator."""
    kinds = (QuantizationSpec, FixedQParamsQuantizationSpec)
    if spec is not None and not isinstance(spec, kinds) and role != "bias":
        raise ConfigError(
            f"{role} is a {type(spec).__name__} (expected a QuantizationSpec, a "
            "FixedQParamsQuantizationSpec or None). Only annotators can return other specs."
        )


def _check_range(role: str, spec: Any) -> None:
    if not isinstance(spec, QuantizationSpec) or spec.dtype.is_floating_point:
        return
    try:
        limits = torch.iinfo(spec.dtype)
    except TypeError as cause:  # of a dtype without arithmetic, such as torch.int4
        raise ConfigError(
            f"{role} is {spec.dtype} (expected an integer dtype of 8 bits or more). For fewer "
            "bits, narrow quant_min and quant_max of torch.int8."
        ) from cause
    low, high = spec.quant_min, spec.quant_max
    if (low is not None and low < limits.min) or (high is not None and high > limits.max):
        raise ConfigError(
            f"{role} has the range [{low}, {high}], beyond what {spec.dtype} can represent"
        )


def saturates(config: QuantizationConfig) -> bool:
    """Whether 16-bit sums of two products overflow, see ``processor.overflows``."""
    activation, weight = config.input_activation, config.weight
    if not isinstance(activation, QuantizationSpec) or not isinstance(weight, QuantizationSpec):
        return False
    if any(spec.dtype not in (torch.int8, torch.uint8) for spec in (activation, weight)):
        return False
    return overflows(_range(activation), _range(weight))


def _range(spec: QuantizationSpec) -> tuple[int, int]:
    limits = torch.iinfo(spec.dtype)
    low = limits.min if spec.quant_min is None else spec.quant_min
    return low, limits.max if spec.quant_max is None else spec.quant_max


def equivalent(one: QuantizationConfig, other: QuantizationConfig) -> bool:
    """Whether two configs quantize alike, even if their observer factories differ as objects."""
    return one.is_qat == other.is_qat and all(
        _meaning(getattr(one, role)) == _meaning(getattr(other, role)) for role in ROLES
    )


def _meaning(value: Any) -> Any:
    """Return a representation that compares by value, including the factories' arguments."""
    if isinstance(value, QuantizationSpec):
        return {name: _meaning(each) for name, each in vars(value).items()}
    observer, arguments = made_by(value)
    return observer, {name: _meaning(each) for name, each in arguments.items()}


def is_float(spec: Any) -> bool:
    """Whether a spec keeps a value in float32, as the bias specs of torchao's configs do."""
    return spec is None or getattr(spec, "dtype", None) == torch.float32
