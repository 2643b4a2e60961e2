"""The named configs, and what of a config Inductor's int8 kernels cannot take.

Inductor knows its int8 kernels by the numbers in the graph: uint8 activations, int8 weights per
output channel. Another config would compute in float, with conversions for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from qreg import SupportedConfig
from qreg.configs.factory import REDUCED_INT8, preferred

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Mode

MODES: dict[Mode, str] = {
    "static": "convolutions and linears",
    "dynamic": "linears only",
    "qat": "convolutions and linears",
}


def supported_configs() -> Iterable[SupportedConfig]:
    """Return the named configs, those for this processor first."""
    return preferred(_named(), _named("_reduced", reduced=True))


def _named(suffix: str = "", reduced: bool = False) -> Iterator[SupportedConfig]:
    """Yield a config of each mode."""
    weights = f"{'7-bit' if reduced else 'int8'} weights per channel"
    for mode, operators in MODES.items():
        factory = partial(_config, reduced, is_qat=mode == "qat", is_dynamic=mode == "dynamic")
        summary = f"uint8 activations per tensor, {mode}; {weights}; {operators}"
        yield SupportedConfig(f"int8_{mode}{suffix}", summary, mode, factory)


def _config(reduced: bool, **arguments: bool) -> QuantizationConfig:
    """torchao's config; its own ``reduce_range`` takes the bit from the activations."""
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        get_default_x86_inductor_quantization_config,
    )

    config: QuantizationConfig = get_default_x86_inductor_quantization_config(**arguments)
    if not reduced:
        return config
    weight = replace(config.weight, quant_min=REDUCED_INT8.low, quant_max=REDUCED_INT8.high)
    return replace(config, weight=weight)


def refuses(config: QuantizationConfig) -> str | None:
    """The reason why Inductor has no int8 kernel for a config."""
    import torch

    from qreg.configs.validation import is_float

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
    return None if is_float(config.bias) else "the bias is quantized: Inductor adds it in float"
