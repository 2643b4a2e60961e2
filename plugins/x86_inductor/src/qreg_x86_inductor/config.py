"""The named configs, and what of a config Inductor's int8 kernels cannot take.

Inductor knows its int8 kernels by the numbers in the graph: uint8 activations, int8 weights per
output channel. Another config would compute in float, with conversions for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from qreg.model import SupportedConfig

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def supported_configs() -> Iterable[SupportedConfig]:
    weights = "int8 weights per channel"
    return [
        SupportedConfig(
            "int8_static",
            f"uint8 activations per tensor, static; {weights}; convolutions and linears",
            "static",
            _config,
        ),
        SupportedConfig(
            "int8_static_reduced",
            f"the same with activations of 7 bits, for CPUs without VNNI; {weights}",
            "static",
            partial(_config, reduce_range=True),
        ),
        SupportedConfig(
            "int8_dynamic",
            f"uint8 activations per tensor, dynamic; {weights}; linears only",
            "dynamic",
            partial(_config, is_dynamic=True),
        ),
        SupportedConfig(
            "int8_qat",
            f"uint8 activations per tensor, static, trained; {weights}",
            "qat",
            partial(_config, is_qat=True),
        ),
    ]


def _config(**arguments: bool) -> QuantizationConfig:
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        get_default_x86_inductor_quantization_config,
    )

    config: QuantizationConfig = get_default_x86_inductor_quantization_config(**arguments)
    return config


def refuses(config: QuantizationConfig) -> str | None:
    """The reason why Inductor has no int8 kernel for a config."""
    import torch

    entering, weight = config.input_activation, config.weight
    if entering is None or weight is None:
        return "Inductor's int8 kernels read quantized activations and weights: give it both"
    if entering.dtype != torch.uint8:
        return f"activations are {entering.dtype}: oneDNN's kernels in Inductor read torch.uint8"
    if weight.dtype != torch.int8 or weight.qscheme != torch.per_channel_symmetric:
        return (
            f"weights are {weight.dtype} with {weight.qscheme}: Inductor's kernels take torch.int8 "
            "with torch.per_channel_symmetric"
        )
    return _refused_axis(weight)


def _refused_axis(weight: Any) -> str | None:
    axis = weight.ch_axis
    return None if axis in (0, None) else f"weights are per channel of axis {axis}: it must be 0"
