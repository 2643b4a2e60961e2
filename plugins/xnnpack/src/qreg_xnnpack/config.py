"""The symmetric configs of XNNPACK, with weights of 8 or 4 bits, and their names.

The defaults are those of executorch's quantizer: int8 activations, affine and per tensor, in
[-128, 127]; int8 weights, symmetric, in [-127, 127]; a smallest scale (``eps``) of 2**-12. The
delegate packs two weights into a byte where their range is exactly [-8, 7].
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qreg import SupportedConfig
from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import (
    EPS,
    INT4,
    SYMMETRIC_INT8,
    VARIANTS,
    Codes,
    activation_spec,
    config,
    named,
)
from qreg.configs.groups import group_size_of, groupwise_spec, has_signed_scales
from qreg.configs.weights import weight_config

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

GROUP = 32  # executorch 1.4.1: groups of weights are a multiple of it


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


@functools.cache
def get_groupwise_quantization_config(group_size: int = GROUP) -> QuantizationConfig:
    """Return a config of dynamic int8 activations and symmetric 4-bit weights in groups.

    Each ``group_size`` neighbouring elements of a row of the weight share a scale; 32, 64, 128 and
    256 are usual. Weights are rounded as torchao's ``Int8DynamicActivationIntxWeightConfig`` rounds
    them, and the delegate stores their scales in bfloat16. The configs are cached by group size.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    entering = activation_spec(Codes("int8", -128, 127), is_dynamic=True)
    return QuantizationConfig(entering, None, groupwise_spec(INT4, group_size), None, False)


# executorch 1.4.1 lowers uint8 activations and quantized biases too, but the runtime does not load
# the program. It quantizes a dynamic activation to its own type.
LIMITS = ConfigLimits(
    "the delegate",
    dynamic=("int8", "uint8"),
    dynamic_scheme="per_channel_symmetric",  # it does not lower others with dynamic activations
    groups=True,
)


def refuses(config: QuantizationConfig) -> str | None:
    """Return why the delegate does not compute with a config in integers, or None."""
    return LIMITS(config) or _wrong_groups(config)


def _wrong_groups(config: QuantizationConfig) -> str | None:
    from qreg.configs.validation import mode_of

    size, weight = group_size_of(config.weight), config.weight
    if size is None or mode_of(config) == "weight":
        return None
    if size < GROUP or size % GROUP:
        return f"its weights are in groups of {size} (expected a multiple of {GROUP})"
    if (weight.quant_min, weight.quant_max) != (INT4.low, INT4.high):
        ends = [weight.quant_min, weight.quant_max]
        return f"its weights are in groups and in {ends} (expected {[INT4.low, INT4.high]})"
    if has_signed_scales(weight):
        return "its weights are in groups with signed scales (expected positive ones, for linear)"
    dynamic = config.input_activation is not None and config.input_activation.is_dynamic
    return None if dynamic else "its weights are in groups, which need dynamic activations"


def _groupwise() -> Iterator[SupportedConfig]:
    for size in (32, 64, 128, 256):
        yield SupportedConfig(
            f"int4_dynamic_groupwise{'' if size == GROUP else f'_{size}'}",
            f"int8 activations per tensor, dynamic; 4-bit weights in groups of {size}, for linear",
            "dynamic",
            functools.partial(get_groupwise_quantization_config, size),
            group_scale_bits=16,  # bfloat16; the scales of tables are in float32
        )


def _of_tables() -> Iterator[SupportedConfig]:
    for name, bits, codes in (("int8", "int8", SYMMETRIC_INT8), ("int4", "4-bit", INT4)):
        yield SupportedConfig(
            f"{name}_weight_per_channel",
            f"float activations; {bits} weights per row, for embeddings",
            "weight",
            functools.partial(weight_config, codes),
        )
        yield SupportedConfig(
            f"{name}_weight_groupwise",
            f"float activations; {bits} weights in groups of {GROUP}, for embeddings",
            "weight",
            functools.partial(weight_config, codes, group_size=GROUP, signed_scales=codes == INT4),
        )


CONFIGS = (
    *named(get_symmetric_quantization_config, VARIANTS),
    SupportedConfig(
        "int4_dynamic_per_channel",
        "int8 activations per tensor, dynamic; 4-bit weights per channel, for linear",
        "dynamic",
        functools.partial(
            get_symmetric_quantization_config,
            is_per_channel=True,
            is_dynamic=True,
            weight_qmin=INT4.low,
            weight_qmax=INT4.high,
        ),
    ),
    *_groupwise(),
    *_of_tables(),
)
