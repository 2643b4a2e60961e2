"""The named configs, and the limits on other configs for Inductor's int8 kernels.

Inductor selects int8 kernels by the dtypes in the graph: uint8 activations and int8 weights per
output channel. With any other config, a model would compute in float and pay for conversions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from qreg import SupportedConfig
from qreg.backends.limits import ConfigLimits
from qreg.configs.factory import REDUCED_INT8, preferred

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Mode

LIMITS = ConfigLimits(
    "oneDNN's kernels in Inductor",
    activations=("uint8",),
    dynamic=("uint8",),
    symmetric_dynamic=True,
    scheme="per_channel_symmetric",
    required=("input_activation", "weight"),
    unchecked=("output_activation",),
)
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
    """Return torchao's config, with 7-bit weights if ``reduced``.

    torchao's ``reduce_range`` is not used because it reduces the activations instead.
    """
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        get_default_x86_inductor_quantization_config,
    )

    config: QuantizationConfig = get_default_x86_inductor_quantization_config(**arguments)
    if not reduced:
        return config
    weight = replace(config.weight, quant_min=REDUCED_INT8.low, quant_max=REDUCED_INT8.high)
    return replace(config, weight=weight)
