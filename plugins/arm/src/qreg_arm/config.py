"""The symmetric configs of Arm's quantizer, converted to torchao's form and back to Arm's.

Arm's config class differs from that of qreg and torchao. The values are Arm's. Only its histogram
observer is replaced by qreg's, which finds the same qparams in a fraction of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qreg.backends.limits import LABELS, RANGES, ConfigLimits
from qreg.configs.factory import STATIC_VARIANTS, named

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

INT16 = RANGES["int16"]
EPS = 2**-16  # the smallest scale of Arm's int8 config


@functools.cache
def symmetric(is_per_channel: bool = True, is_qat: bool = False) -> QuantizationConfig:
    """Return Arm's config of int8 activations per tensor and symmetric int8 weights.

    The config has no bias: Arm derives the scale of the bias from those of input and weight.
    """
    from executorch.backends.arm.quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    arm: Any = get_symmetric_quantization_config(is_per_channel=is_per_channel, is_qat=is_qat)
    activation = arm.input_activation if is_qat else _with_our_histogram(arm.input_activation)
    return QuantizationConfig(activation, activation, arm.weight, None, is_qat)


@functools.cache
def symmetric_int16(is_per_channel: bool = True, is_qat: bool = False) -> QuantizationConfig:
    """Return a config of symmetric int16 activations per tensor, and the weights of ``symmetric``.

    Activations are observed by their minimum and maximum: with 65,536 quantized values, clipping
    gains nothing. Arm's config begins at -32767 and has a smallest scale of 2**-12, which leaves
    values up to 1 only 4096 quantized values. This one has the range that TOSA clamps to, and the
    smallest scale of int8.
    """
    import torch
    from torchao.quantization.pt2e import MinMaxObserver

    base = symmetric(is_per_channel, is_qat)
    activation = replace(
        base.input_activation,
        dtype=torch.int16,
        quant_min=INT16[0],
        quant_max=INT16[1],
        qscheme=torch.per_tensor_symmetric,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=EPS),
    )
    return replace(base, input_activation=activation, output_activation=activation)


def _with_our_histogram(spec: QuantizationSpec) -> QuantizationSpec:
    from qreg.graph.compat import made_by
    from qreg.observers.observers import HistogramObserver

    _, arguments = made_by(spec.observer_or_fake_quant_ctr)
    return replace(spec, observer_or_fake_quant_ctr=HistogramObserver.with_args(**arguments))


def in_arm_form(config: QuantizationConfig) -> Any:
    """Convert a config to Arm's class; its bias is derived from input and weight."""
    from executorch.backends.arm.quantizer import get_symmetric_quantization_config

    from qreg_arm.compat import quantization_config_class

    bias = get_symmetric_quantization_config(is_per_channel=_is_per_channel(config)).bias
    return quantization_config_class()(
        config.input_activation, config.output_activation, config.weight, bias
    )


def _is_per_channel(config: QuantizationConfig) -> bool:
    import torch

    return config.weight is not None and config.weight.qscheme == torch.per_channel_symmetric


LIMITS = ConfigLimits(
    "Arm",
    activations=("int8", "int16"),
    whole_range=True,  # TOSA clamps to no other
    required=("input_activation", "output_activation", "weight"),
    unchecked=("bias",),  # Arm derives it and ignores the config's
)
CONFIGS = (
    *named(symmetric, STATIC_VARIANTS),
    *named(symmetric_int16, STATIC_VARIANTS[:2], "int16"),
)


def refused(config: QuantizationConfig) -> str | None:
    """Return why TOSA would not compute in integers with a config, or None."""
    return LIMITS(config) or next(_with_zero_points(config), None)


def _with_zero_points(config: QuantizationConfig) -> Iterator[str]:
    """Yield the activations that would have zero points, which TOSA has for int8 only."""
    import torch

    for role, label in LABELS.items():
        spec: Any = getattr(config, role)
        if spec.dtype == torch.int16 and spec.qscheme != torch.per_tensor_symmetric:
            wanted = "torch.per_tensor_symmetric for Arm, whose int16 has no zero point"
            yield f"its {label} are torch.int16 of {spec.qscheme} (expected {wanted})"
