"""The symmetric int8 config of XNNPACK, and the names it goes by.

The defaults are those of executorch's own quantizer: int8 activations, affine and per tensor, in
[-128, 127]; int8 weights, symmetric, in [-127, 127]; a smallest scale (``eps``) of 2**-12.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qreg import SupportedConfig
from qreg.configs.factory import EPS, Codes, config

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Mode


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
    """A config of int8 activations and symmetric int8 weights, cached by its arguments.

    As :func:`qreg.configs.factory.config`, under the names that users of executorch's own know. The
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


def supported_configs() -> Iterator[SupportedConfig]:
    """The named configs. Dynamic per tensor is none of them: the delegate does not lower it."""
    yield _named("int8_static_per_channel", "static", is_per_channel=True)
    yield _named("int8_static_per_tensor", "static")
    yield _named("int8_dynamic_per_channel", "dynamic", is_per_channel=True, is_dynamic=True)
    yield _named("int8_qat_per_channel", "qat", is_per_channel=True, is_qat=True)
    yield _named("int8_qat_per_tensor", "qat", is_qat=True)


def _named(name: str, mode: Mode, **arguments: bool) -> SupportedConfig:
    weights = "channel" if arguments.get("is_per_channel") else "tensor"
    factory: Callable[[], QuantizationConfig] = functools.partial(
        get_symmetric_quantization_config, **arguments
    )
    summary = f"int8 activations per tensor, {mode}; int8 weights per {weights}"
    return SupportedConfig(name, summary, mode, factory)


def refuses(config: QuantizationConfig) -> str | None:
    """Why the delegate cannot run a config in int8; None if it can.

    executorch 1.4.1 lowers uint8 activations and quantized biases too, but the runtime does not
    load the program.
    """
    import torch

    from qreg.configs.validation import is_float

    for role, spec in (
        ("input", config.input_activation),
        ("output", config.output_activation),
    ):
        reason = None if spec is None else _refuses_activation(role, spec)
        if reason:
            return reason
    if not is_float(config.bias):
        return "its bias is quantized, which the delegate does itself: leave bias at None"
    if config.weight is not None and config.weight.dtype != torch.int8:
        return f"its weights are {config.weight.dtype}: the delegate has kernels for torch.int8"
    return None


def _refuses_activation(role: str, spec: Any) -> str | None:
    """A dynamic activation is quantized by the delegate, to its own type."""
    import torch

    taken = (torch.int8, torch.uint8) if getattr(spec, "is_dynamic", False) else (torch.int8,)
    if spec.dtype in taken:
        return None
    return f"its {role} activations are {spec.dtype}: the delegate has kernels for torch.int8"
