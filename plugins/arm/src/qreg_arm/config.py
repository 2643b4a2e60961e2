"""The symmetric int8 configs of Arm's quantizer, converted to torchao's form and back to Arm's.

Arm's config class differs from that of qreg and torchao. The values are Arm's. Only its histogram
observer is replaced by qreg's, which finds the same qparams in a fraction of the time.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import STATIC_VARIANTS, named

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec


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
    whole_range=True,  # TOSA clamps to no other
    required=("input_activation", "output_activation", "weight"),
    unchecked=("bias",),  # Arm derives it and ignores the config's
)
CONFIGS = tuple(named(symmetric, STATIC_VARIANTS))
