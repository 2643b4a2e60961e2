"""The configs of OpenVINO's integer kernels, and those that it would not run in integers.

Activations are int8, affine and per tensor, in the whole of [-128, 127]; weights are int8 and
symmetric. In the program a quantization is a FakeQuantize, which has bounds and no type, so that
uint8 gives the same kernels and the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qreg import SupportedConfig
from qreg.specs import EPS, INT8, SYMMETRIC_INT8, Codes, config

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg.model import Mode

SEVEN_BITS = 126  # the least width of a weight's range that was found to run in int8
WHOLE = {"torch.int8": (-128, 127), "torch.uint8": (0, 255)}


def get_int8_quantization_config(
    is_per_channel: bool = True,
    is_qat: bool = False,
    weight_qmin: int = SYMMETRIC_INT8.low,
    weight_qmax: int = SYMMETRIC_INT8.high,
    *,
    eps: float = EPS,
) -> QuantizationConfig:
    """A config of int8 activations and symmetric int8 weights, cached by its arguments.

    ``eps`` is the smallest scale, see ``qreg.specs.config``.
    """
    return config(
        is_qat=is_qat,
        per_channel=is_per_channel,
        activation=INT8,
        weight=Codes("int8", weight_qmin, weight_qmax),
        eps=eps,
    )


def supported_configs() -> Iterator[SupportedConfig]:
    """The named configs."""
    yield _named("int8_static_per_channel", "static")
    yield _named("int8_static_per_tensor", "static", is_per_channel=False)
    yield _named("int8_qat_per_channel", "qat", is_qat=True)
    yield _named("int8_qat_per_tensor", "qat", is_qat=True, is_per_channel=False)


def _named(name: str, mode: Mode, **arguments: bool) -> SupportedConfig:
    weights = "channel" if arguments.get("is_per_channel", True) else "tensor"
    factory: Callable[[], QuantizationConfig] = functools.partial(
        get_int8_quantization_config, **arguments
    )
    summary = f"int8 activations per tensor, {mode}; int8 weights per {weights}"
    return SupportedConfig(name, summary, mode, factory)


def refuses(config: QuantizationConfig) -> str | None:
    """Why OpenVINO would run a config in float, or wrongly; None if it runs it in integers."""
    for spec in (config.input_activation, config.output_activation):
        reason = None if spec is None else _refuses_activation(spec)
        if reason:
            return reason
    if config.bias is not None:
        return "it quantizes the bias, which OpenVINO does itself: leave bias at None"
    weight = config.weight
    if weight is not None and str(getattr(weight, "dtype", None)) != "torch.int8":
        return f"its weights are {weight.dtype}: the integer kernels take torch.int8"
    return None if weight is None else _refuses_weight(weight)


def _refuses_activation(spec: Any) -> str | None:
    dtype, ends = str(getattr(spec, "dtype", None)), _ends(spec)
    if getattr(spec, "is_dynamic", False):
        return "its activations are dynamic: OpenVINO has no operator that chooses parameters"
    if dtype not in WHOLE:
        return f"its activations are {dtype}: OpenVINO takes torch.int8 or torch.uint8"
    if ends not in (WHOLE[dtype], (None, None)):
        return (
            f"its activations are in [{ends[0]}, {ends[1]}]: OpenVINO has integer kernels for all "
            f"256 values, take {list(WHOLE[dtype])}"
        )
    return None


def _refuses_weight(spec: Any) -> str | None:
    low, high = _ends(spec)
    if low is None or high is None or high - low >= SEVEN_BITS:
        return None
    return (
        f"its weights are in [{low}, {high}]: OpenVINO stores them in 4 bits then, and computes in "
        "float or wrongly"
    )


def _ends(spec: Any) -> tuple[Any, Any]:
    return getattr(spec, "quant_min", None), getattr(spec, "quant_max", None)
