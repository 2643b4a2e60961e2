"""Int8 configs of affine activations and symmetric weights, with observers that are quick.

Every backend of int8 kernels takes one of these; they differ in the type and the range of
activations, in that of weights, and in the smallest scale. The observers are qreg's own
(``qreg.observers.observers``), which give torchao's parameters.
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
    """The integers that values are stored as: a torch dtype by its name, and the range of it."""

    dtype: str
    low: int
    high: int


INT8 = Codes("int8", -128, 127)
UINT8 = Codes("uint8", 0, 255)
SYMMETRIC_INT8 = Codes("int8", -127, 127)
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
    """Yield a config of each variant, named as in ``int8_static_per_channel``.

    Args:
        make: Called with ``is_per_channel``, ``is_qat``, ``is_dynamic`` for dynamic variants, and
            ``arguments``, when a config is used.
        variants: The mode and the granularity of each.
        activation: The dtype of activations, for names and summaries.
        bits: How summaries call the weights.
        suffix: What names end with.
        **arguments: What ``make`` is called with besides.
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
    """As ``named``, each with weights of 8 and of 7 bits, those for this processor first.

    ``make`` is called with ``weight_qmin`` and ``weight_qmax`` for weights of 7 bits.
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
    """A config, cached by its arguments.

    Static activations are observed with a histogram, dynamic ones are quantized from the range of
    each input, QAT fakes both with a moving average. Activations are affine and per tensor. Weights
    are symmetric, observed by their minimum and maximum, per tensor or along axis 0, and without
    QAT only once. ``eps`` is the smallest scale: with the default, weights far below
    2**-12 * 127 = 0.031 keep only few of their 255 values. Bias stays in float.
    """
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    entering = activation_spec(activation, is_qat=is_qat, is_dynamic=is_dynamic, eps=eps)
    factor = weight_spec(weight, per_channel=per_channel, is_qat=is_qat, eps=eps)
    return QuantizationConfig(entering, None if is_dynamic else entering, factor, None, is_qat)


def activation_spec(
    codes: Codes, *, is_qat: bool = False, is_dynamic: bool = False, eps: float = EPS
) -> QuantizationSpec:
    """Affine and per tensor."""
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
    """Symmetric, per tensor or along axis 0."""
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
