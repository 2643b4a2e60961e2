"""The configs of OpenVINO's integer kernels, and the limits of others.

Activations are int8, affine and per tensor, in the full range [-128, 127]. Weights are int8 and
symmetric, in [-127, 127], or in [-64, 63] for x86 processors without VNNI. In the program, a
quantization is a FakeQuantize, which has bounds but no dtype, so uint8 results in the same kernels
and the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qreg import SupportedConfig
from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import (
    EPS,
    INT8,
    STATIC_VARIANTS,
    SYMMETRIC_INT8,
    Codes,
    config,
    named_by_processor,
)
from qreg.configs.groups import group_size_of, unsupported_groups
from qreg.configs.weights import configs_in_groups, weight_config

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

# OpenVINO stores weights of fewer than 7 bits in 4 bits; it then computes in float or wrongly.
LIMITS = ConfigLimits("OpenVINO", activations=("int8", "uint8"), whole_range=True, weight_span=126)
IN_GROUPS = ConfigLimits("OpenVINO", activations=LIMITS.activations, groups=True)
GROUPS = (32, 64, 128)
SMALLEST_GROUP = 16  # of openvino 2026.4


def get_int8_quantization_config(
    is_per_channel: bool = True,
    is_qat: bool = False,
    weight_qmin: int = SYMMETRIC_INT8.low,
    weight_qmax: int = SYMMETRIC_INT8.high,
    *,
    eps: float = EPS,
) -> QuantizationConfig:
    """Return a config of int8 activations and symmetric int8 weights, cached by its arguments.

    ``eps`` is the smallest scale; see ``qreg.configs.factory.config``.
    """
    return config(
        is_qat=is_qat,
        per_channel=is_per_channel,
        activation=INT8,
        weight=Codes("int8", weight_qmin, weight_qmax),
        eps=eps,
    )


def supported_configs() -> Iterable[SupportedConfig]:
    """Return the named configs, those for this processor first."""
    yield from named_by_processor(get_int8_quantization_config, STATIC_VARIANTS)
    yield SupportedConfig(
        "int8_weight_per_channel",
        "float activations; int8 weights per channel, for linear",
        "weight",
        weight_config,
    )
    yield from configs_in_groups(GROUPS, scale_bits=16)  # float16


def refuses(config: QuantizationConfig) -> str | None:
    """Return why the runtime does not compute with a config in integers, or None."""
    if group_size_of(config.weight) is None:
        return LIMITS(config)
    return IN_GROUPS(config) or unsupported_groups(config, SMALLEST_GROUP)
