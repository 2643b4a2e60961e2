"""The configs of ONNX Runtime's integer kernels, and the limits of others.

Activations are uint8, affine and per tensor, in the full range [0, 255]. Weights are int8 and
symmetric, in [-127, 127], or in [-64, 63] for x86 processors without VNNI.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qreg import SupportedConfig
from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import (
    EPS,
    SYMMETRIC_INT8,
    UINT8,
    VARIANTS,
    Codes,
    config,
    named_by_processor,
)
from qreg.configs.groups import unsupported_groups
from qreg.configs.weights import configs_in_groups, weight_config

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

# onnxruntime 1.32 fuses int8 activations only in part on x86: a residual block ran at 1.1 times its
# float speed instead of 3.2 times. The QuantizeLinear of ONNX has no range but that of its type.
LIMITS = ConfigLimits(
    "ONNX Runtime", activations=("uint8",), dynamic=("uint8",), whole_range=True, groups=True
)
GROUPS = (32, 128)
SMALLEST_GROUP = 16  # of the kernel of MatMulNBits


def get_uint8_quantization_config(
    is_per_channel: bool = True,
    is_qat: bool = False,
    is_dynamic: bool = False,
    weight_qmin: int = SYMMETRIC_INT8.low,
    weight_qmax: int = SYMMETRIC_INT8.high,
    *,
    eps: float = EPS,
) -> QuantizationConfig:
    """Return a config of uint8 activations and symmetric int8 weights, cached by its arguments.

    ``weight_qmin`` and ``weight_qmax`` of -64 and 63 are for x86 processors without VNNI, whose sum
    of two products saturates. ``eps`` is the smallest scale; see ``qreg.configs.factory.config``.
    """
    return config(
        is_qat=is_qat,
        is_dynamic=is_dynamic,
        per_channel=is_per_channel,
        activation=UINT8,
        weight=Codes("int8", weight_qmin, weight_qmax),
        eps=eps,
    )


def supported_configs() -> Iterable[SupportedConfig]:
    """Return the named configs, those for this processor first."""
    yield from named_by_processor(get_uint8_quantization_config, VARIANTS, "uint8")
    yield SupportedConfig(
        "int8_weight_per_channel",
        "float activations; int8 weights per channel, for linear",
        "weight",
        weight_config,
    )
    yield from configs_in_groups(GROUPS)


def refuses(config: QuantizationConfig) -> str | None:
    """Return why the runtime does not compute with a config in integers, or None."""
    return LIMITS(config) or unsupported_groups(config, SMALLEST_GROUP)
