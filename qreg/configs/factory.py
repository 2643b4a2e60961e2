"""Int8 configs with affine activations, symmetric weights and fast observers.

Each backend with int8 kernels supports one of these configs. They differ in the type and range of
activations, in the range of weights, and in the smallest scale. The observers are those of
``qreg.observers.observers``, which return the same qparams as torchao's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen

from qreg.plugins.processor import has_vnni
from qreg.plugins.types.backend import Mode, SupportedConfig

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec


T = TypeVar("T")


def preferred(full: Iterable[T], reduced: Iterable[T]) -> tuple[T, ...]:
    """Order configs of a backend that saturates without VNNI: those for this processor first."""
    return (*full, *reduced) if has_vnni() else (*reduced, *full)


EPS = 2**-12  # the smallest scale of torchao's and executorch's own configs


@frozen
class Codes:
    """The range of quantized values: the name of a torch dtype, and its limits, both inclusive."""

    dtype: str
    low: int
    high: int


INT8 = Codes("int8", -128, 127)
UINT8 = Codes("uint8", 0, 255)
SYMMETRIC_INT8 = Codes("int8", -127, 127)
INT4 = Codes("int8", -8, 7)
REDUCED_INT8 = Codes("int8", -64, 63)  # for x86 processors without VNNI, see qreg.plugins.processor


Variants = tuple[tuple[Mode, bool], ...]  # the mode, and whether weights are per channel
STATIC_VARIANTS: Variants = (("static", True), ("static", False), ("qat", True), ("qat", False))
VARIANTS: Variants = (*STATIC_VARIANTS[:2], ("dynamic", True), *STATIC_VARIANTS[2:])


def named(
    make: Callable[..., QuantizationConfig],
    variants: Variants,
    activation: str = "int8",
    *,
    bits: str = "int8",
    suffix: str = "",
    **arguments: Any,
) -> Iterator[SupportedConfig]:
    """Yield a config for each variant, named like ``int8_static_per_channel``.

    Args:
        make: Called with ``is_per_channel``, ``is_qat``, ``is_dynamic`` for dynamic variants, and
            ``arguments``, when a config is used.
        variants: The mode and the granularity of each.
        activation: The dtype of activations, for names and summaries.
        bits: The name of the weights' type in summaries.
        suffix: The end of each name.
        **arguments: Further arguments of ``make``.
    """
    for mode, per_channel in variants:
        granularity = "channel" if per_channel else "tensor"
        dynamic = {"is_dynamic": True} if mode == "dynamic" else {}
        yield SupportedConfig(
            f"{activation}_{mode}_per_{granularity}{suffix}",
            f"{activation} activations per tensor, {mode}; {bits} weights per {granularity}",
            mode,
            functools.partial(
                make, is_per_channel=per_channel, is_qat=mode == "qat", **dynamic, **arguments
            ),
        )


def named_by_processor(
    make: Callable[..., QuantizationConfig], variants: Variants, activation: str = "int8"
) -> tuple[SupportedConfig, ...]:
    """Return the configs of ``named`` with 8-bit and 7-bit weights, those for this processor first.

    For 7-bit weights, ``make`` is called with ``weight_qmin`` and ``weight_qmax``.
    """
    reduced = {"weight_qmin": REDUCED_INT8.low, "weight_qmax": REDUCED_INT8.high}
    return preferred(
        named(make, variants, activation),
        named(make, variants, activation, bits="7-bit", suffix="_reduced", **reduced),
    )


@functools.cache
def config(
    *,
    is_qat: bool = False,
    is_dynamic: bool = False,
    per_channel: bool = True,
    activation: Codes = INT8,
    weight: Codes = SYMMETRIC_INT8,
    eps: float = EPS,
) -> QuantizationConfig:
    """Return a config, cached by its arguments.

    Activations are affine and per tensor. Static activations are observed with a histogram,
    dynamic activations are quantized from the range of each input, and QAT uses fake quantizers
    with a moving average for activations and weights. Weights are symmetric, per tensor or along
    axis 0. They are observed by their minimum and maximum, without QAT only once. ``eps`` is the
    smallest scale: with the default, weights far below 2**-12 * 127 = 0.031 use only few of their
    255 quantized values. Bias stays in float.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    entering = activation_spec(activation, is_qat=is_qat, is_dynamic=is_dynamic, eps=eps)
    factor = weight_spec(weight, per_channel=per_channel, is_qat=is_qat, eps=eps)
    return QuantizationConfig(entering, None if is_dynamic else entering, factor, None, is_qat)


def activation_spec(
    codes: Codes, *, is_qat: bool = False, is_dynamic: bool = False, eps: float = EPS
) -> QuantizationSpec:
    """Return an affine per-tensor spec."""
    import torch
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    return QuantizationSpec(
        dtype=getattr(torch, codes.dtype),
        quant_min=codes.low,
        quant_max=codes.high,
        qscheme=torch.per_tensor_affine,
        is_dynamic=is_dynamic,
        observer_or_fake_quant_ctr=_activation_observer(is_qat, is_dynamic, eps),
    )


def _activation_observer(is_qat: bool, is_dynamic: bool, eps: float) -> Any:
    from torchao.quantization.pt2e import (
        FakeQuantize,
        MovingAverageMinMaxObserver,
        PlaceholderObserver,
    )

    from qreg.observers.observers import FusedMovingAvgObsFakeQuantize, HistogramObserver

    if is_qat and is_dynamic:
        # An averaging constant of 1 forgets earlier batches, as dynamic quantization does.
        latest = MovingAverageMinMaxObserver.with_args(averaging_constant=1)
        return FakeQuantize.with_args(eps=eps, observer=latest)
    if is_qat:
        return FusedMovingAvgObsFakeQuantize.with_args(eps=eps)
    return (PlaceholderObserver if is_dynamic else HistogramObserver).with_args(eps=eps)


def weight_spec(
    codes: Codes, *, per_channel: bool, is_qat: bool = False, eps: float = EPS
) -> QuantizationSpec:
    """Return a symmetric spec, per tensor or along axis 0."""
    import torch
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    return QuantizationSpec(
        dtype=getattr(torch, codes.dtype),
        quant_min=codes.low,
        quant_max=codes.high,
        qscheme=torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=_weight_observer(per_channel, is_qat, eps),
    )


def _weight_observer(per_channel: bool, is_qat: bool, eps: float) -> Any:
    from torchao.quantization.pt2e import (
        MovingAverageMinMaxObserver,
        MovingAveragePerChannelMinMaxObserver,
    )

    from qreg.observers.observers import (
        ConstantMinMaxObserver,
        ConstantPerChannelMinMaxObserver,
        FusedMovingAvgObsFakeQuantize,
    )

    if not is_qat:
        constant = ConstantPerChannelMinMaxObserver if per_channel else ConstantMinMaxObserver
        return constant.with_args(eps=eps)
    moving = MovingAveragePerChannelMinMaxObserver if per_channel else MovingAverageMinMaxObserver
    return FusedMovingAvgObsFakeQuantize.with_args(eps=eps, observer=moving)
