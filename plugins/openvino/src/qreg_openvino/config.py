"""The configs of OpenVINO's integer kernels, and those that it would not run in integers.

Activations are int8, affine and per tensor, in the whole of [-128, 127]; weights are int8 and
symmetric, in [-127, 127], or in [-64, 63] for x86 processors without VNNI. In the program a
quantization is a FakeQuantize, which has bounds and no type, so that uint8 gives the same kernels
and the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from qreg import SupportedConfig
from qreg.configs.factory import EPS, INT8, REDUCED_INT8, SYMMETRIC_INT8, Codes, config, preferred

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Mode

CONFIGS: tuple[tuple[str, Mode, bool], ...] = (  # name, mode, weights per channel
    ("int8_static_per_channel", "static", True),
    ("int8_static_per_tensor", "static", False),
    ("int8_qat_per_channel", "qat", True),
    ("int8_qat_per_tensor", "qat", False),
)
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

    ``eps`` is the smallest scale, see ``qreg.configs.factory.config``.
    """
    return config(
        is_qat=is_qat,
        per_channel=is_per_channel,
        activation=INT8,
        weight=Codes("int8", weight_qmin, weight_qmax),
        eps=eps,
    )


def supported_configs() -> Iterable[SupportedConfig]:
    """Return the named configs, those for this processor first."""
    return preferred(_named(SYMMETRIC_INT8), _named(REDUCED_INT8, "_reduced"))


def _named(weight: Codes, suffix: str = "") -> Iterator[SupportedConfig]:
    """Yield a config of each mode and granularity, with weights in one range."""
    for name, mode, per_channel in CONFIGS:
        bits = "7-bit" if suffix else "int8"
        weights = f"{bits} weights per {'channel' if per_channel else 'tensor'}"
        factory = functools.partial(
            get_int8_quantization_config,
            is_per_channel=per_channel,
            is_qat=mode == "qat",
            weight_qmin=weight.low,
            weight_qmax=weight.high,
        )
        summary = f"int8 activations per tensor, {mode}; {weights}"
        yield SupportedConfig(f"{name}{suffix}", summary, mode, factory)


def refuses(config: QuantizationConfig) -> str | None:
    """Why OpenVINO would run a config in float, or wrongly; None if it runs it in integers."""
    from qreg.configs.validation import is_float

    for spec in (config.input_activation, config.output_activation):
        reason = None if spec is None else _refuses_activation(spec)
        if reason:
            return reason
    if not is_float(config.bias):
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
