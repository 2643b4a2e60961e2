"""The symmetric int8 config of XNNPACK, and the named configs derived from it.

The defaults are those of executorch's quantizer: int8 activations, affine and per tensor, in
[-128, 127]; int8 weights, symmetric, in [-127, 127]; a smallest scale (``eps``) of 2**-12.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from qreg import SupportedConfig
from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import (
    EPS,
    INT4,
    SYMMETRIC_INT8,
    VARIANTS,
    Codes,
    config,
    named,
    weight_config,
)

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


@functools.cache
def get_symmetric_quantization_config(
    is_per_channel: bool = False,
    is_qat: bool = False,
    is_dynamic: bool = False,
    act_qmin: int = -128,
    act_qmax: int = 127,
    weight_qmin: int = -127,
    weight_qmax: int = 127,
    *,
    eps: float = EPS,
) -> QuantizationConfig:
    """Return a config of int8 activations and symmetric int8 weights, cached by its arguments.

    This is :func:`qreg.configs.factory.config` under the names of executorch's quantizer. The
    delegate quantizes the bias to int32 by the scales of input and weight.
    """
    return config(
        is_qat=is_qat,
        is_dynamic=is_dynamic,
        per_channel=is_per_channel,
        activation=Codes("int8", act_qmin, act_qmax),
        weight=Codes("int8", weight_qmin, weight_qmax),
        eps=eps,
    )


# executorch 1.4.1 lowers uint8 activations and quantized biases too, but the runtime does not load
# the program. It quantizes a dynamic activation to its own type.
LIMITS = ConfigLimits(
    "the delegate",
    dynamic=("int8", "uint8"),
    dynamic_scheme="per_channel_symmetric",  # it does not lower others with dynamic activations
)

CONFIGS = (
    *named(get_symmetric_quantization_config, VARIANTS),
    *(
        SupportedConfig(
            f"{name}_weight_per_channel",
            f"float activations; {summary} weights per row, for embeddings",
            "weight",
            functools.partial(weight_config, codes),
        )
        for name, summary, codes in (
            ("int8", "int8", SYMMETRIC_INT8),
            ("int4", "4-bit", INT4),
        )
    ),
)
