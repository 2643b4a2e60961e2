"""The symmetric int8 config of XNNPACK, and the names it goes by.

The defaults are those of executorch's own quantizer: int8 activations, affine and per tensor, in
[-128, 127]; int8 weights, symmetric, in [-127, 127]; a smallest scale (``eps``) of 2**-12.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qreg import SupportedConfig

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec

    from qreg.model import Mode

EPS = 2**-12


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

    Static activations are observed with a histogram, dynamic ones are quantized from the range of
    each input, QAT fakes both with a moving average. Weights are observed by their minimum and
    maximum, per tensor or along axis 0, and without QAT only once. The observers are qreg's own
    (``qreg.observers``), which give torchao's parameters.

    ``eps`` is the smallest scale: with the default, weights far below 2**-12 * 127 = 0.031 keep
    only few of their 255 values; a smaller one keeps more. Bias stays in float; the delegate
    quantizes it to int32 by the scales of input and weight.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    activation = _activation(is_qat, is_dynamic, act_qmin, act_qmax, eps)
    weight = _weight(is_per_channel, is_qat, weight_qmin, weight_qmax, eps)
    return QuantizationConfig(activation, None if is_dynamic else activation, weight, None, is_qat)


def _activation(
    is_qat: bool, is_dynamic: bool, qmin: int, qmax: int, eps: float
) -> QuantizationSpec:
    import torch
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=qmin,
        quant_max=qmax,
        qscheme=torch.per_tensor_affine,
        is_dynamic=is_dynamic,
        observer_or_fake_quant_ctr=_activation_observer(is_qat, is_dynamic, eps),
    )


def _activation_observer(is_qat: bool, is_dynamic: bool, eps: float) -> Any:
    from torchao.quantization.pt2e import (
        FakeQuantize,
        FusedMovingAvgObsFakeQuantize,
        MovingAverageMinMaxObserver,
        PlaceholderObserver,
    )

    from qreg.observers import HistogramObserver

    if is_qat and is_dynamic:
        # An averaging constant of 1 forgets earlier batches, as dynamic quantization does.
        latest = MovingAverageMinMaxObserver.with_args(averaging_constant=1)
        return FakeQuantize.with_args(eps=eps, observer=latest)
    if is_qat:
        return FusedMovingAvgObsFakeQuantize.with_args(eps=eps)
    return (PlaceholderObserver if is_dynamic else HistogramObserver).with_args(eps=eps)


def _weight(
    is_per_channel: bool, is_qat: bool, qmin: int, qmax: int, eps: float
) -> QuantizationSpec:
    import torch
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=qmin,
        quant_max=qmax,
        qscheme=torch.per_channel_symmetric if is_per_channel else torch.per_tensor_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=_weight_observer(is_per_channel, is_qat, eps),
    )


def _weight_observer(is_per_channel: bool, is_qat: bool, eps: float) -> Any:
    from torchao.quantization.pt2e import (
        FusedMovingAvgObsFakeQuantize,
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )

    from qreg.observers import ConstantMinMaxObserver, ConstantPerChannelMinMaxObserver

    if not is_qat:
        constant = ConstantPerChannelMinMaxObserver if is_per_channel else ConstantMinMaxObserver
        return constant.with_args(eps=eps)
    moving = (
        MovingAveragePerChannelMinMaxObserver if is_per_channel else MovingAverageMinMaxObserver
    )
    return FusedMovingAvgObsFakeQuantize.with_args(eps=eps, observer=moving)


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
