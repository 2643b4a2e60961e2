"""The symmetric int8 configs of Arm's quantizer, in torchao's form and back in Arm's.

Arm has a config class of its own, qreg and torchao another one. The values are Arm's; only its
histogram observer is replaced by qreg's, which finds the same parameters in a fraction of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qreg import SupportedConfig

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

    from qreg import Mode

WHOLE = (-128, 127)


@functools.cache
def symmetric(is_per_channel: bool = True, is_qat: bool = False) -> QuantizationConfig:
    """int8 activations per tensor, symmetric int8 weights, as Arm's quantizer has them.

    Bias is not in it: Arm derives its scale from those of input and weight.
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
    """The config of Arm's own class; its bias is derived from input and weight."""
    from executorch.backends.arm.quantizer import get_symmetric_quantization_config

    from qreg_arm.compat import quantization_config_class

    bias = get_symmetric_quantization_config(is_per_channel=_is_per_channel(config)).bias
    return quantization_config_class()(
        config.input_activation, config.output_activation, config.weight, bias
    )


def _is_per_channel(config: QuantizationConfig) -> bool:
    import torch

    return config.weight is not None and config.weight.qscheme == torch.per_channel_symmetric


def refusal(config: QuantizationConfig) -> str | None:
    """Why Arm's quantizer cannot take a config, None if it can."""
    import torch

    given, result, weight = config.input_activation, config.output_activation, config.weight
    if given is None or result is None or weight is None:
        return "it has no activations or no weights: Arm computes on int8 tensors only"
    if given.is_dynamic or result.is_dynamic:
        return "its activations are dynamic: Arm takes the scales of tensors from calibration"
    for role, spec in (("input", given), ("output", result), ("weight", weight)):
        if spec.dtype != torch.int8:
            return f"its {role} is {spec.dtype}: this backend is for torch.int8"
    for role, spec in (("input", given), ("output", result)):
        ends = spec.quant_min, spec.quant_max
        if ends not in (WHOLE, (None, None)):
            return f"its {role} is in {list(ends)}: TOSA clamps to no range but {list(WHOLE)}"
    return None


def supported_configs() -> Iterator[SupportedConfig]:
    yield _named("int8_static_per_channel", "static")
    yield _named("int8_static_per_tensor", "static", is_per_channel=False)
    yield _named("int8_qat_per_channel", "qat", is_qat=True)
    yield _named("int8_qat_per_tensor", "qat", is_per_channel=False, is_qat=True)


def _named(name: str, mode: Mode, **arguments: bool) -> SupportedConfig:
    weights = "channel" if arguments.get("is_per_channel", True) else "tensor"
    summary = f"int8 activations per tensor, {mode}; int8 weights per {weights}"
    return SupportedConfig(name, summary, mode, functools.partial(symmetric, **arguments))
