"""The configs of ONNX Runtime's integer kernels, and those that it would not run in integers.

Activations are uint8, affine and per tensor, in the whole of [0, 255]; weights are int8, symmetric,
in [-127, 127], or in [-64, 63] for x86 processors without VNNI.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from qreg import SupportedConfig
from qreg.configs.factory import EPS, REDUCED_INT8, SYMMETRIC_INT8, UINT8, Codes, config, preferred

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

    from qreg import Mode

CONFIGS: tuple[tuple[str, Mode, bool], ...] = (  # name, mode, weights per channel
    ("uint8_static_per_channel", "static", True),
    ("uint8_static_per_tensor", "static", False),
    ("uint8_dynamic_per_channel", "dynamic", True),
    ("uint8_qat_per_channel", "qat", True),
    ("uint8_qat_per_tensor", "qat", False),
)


def get_uint8_quantization_config(
    is_per_channel: bool = True,
    is_qat: bool = False,
    is_dynamic: bool = False,
    weight_qmin: int = SYMMETRIC_INT8.low,
    weight_qmax: int = SYMMETRIC_INT8.high,
    *,
    eps: float = EPS,
) -> QuantizationConfig:
    """A config of uint8 activations and symmetric int8 weights, cached by its arguments.

    ``weight_qmin`` and ``weight_qmax`` of -64 and 63 are for x86 processors without VNNI, whose sum
    of two products saturates. ``eps`` is the smallest scale, see ``qreg.configs.factory.config``.
    """
    return config(
        is_qat=is_qat,
        is_dynamic=is_dynamic,
        per_channel=is_per_channel,
        activation=UINT8,
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
            get_uint8_quantization_config,
            is_per_channel=per_channel,
            is_qat=mode == "qat",
            is_dynamic=mode == "dynamic",
            weight_qmin=weight.low,
            weight_qmax=weight.high,
        )
        summary = f"uint8 activations per tensor, {mode}; {weights}"
        yield SupportedConfig(f"{name}{suffix}", summary, mode, factory)


def refuses(config: QuantizationConfig) -> str | None:
    """Why ONNX Runtime would run a config in float, or wrongly; None if it runs it in integers."""
    from qreg.configs.validation import is_float

    for spec in (config.input_activation, config.output_activation):
        reason = None if spec is None else _refuses_activation(spec)
        if reason:
            return reason
    if not is_float(config.bias):
        return "it quantizes the bias, which ONNX Runtime does itself: leave bias at None"
    weight = config.weight
    if weight is not None and str(getattr(weight, "dtype", None)) != "torch.int8":
        return f"its weights are {weight.dtype}: the integer kernels take torch.int8"
    return None


def _refuses_activation(spec: Any) -> str | None:
    """What is wrong with a spec for activations.

    onnxruntime 1.32 fuses int8 activations only in part on x86: a residual block ran at 1.1 times
    its float speed instead of 3.2 times.
    """
    dtype, ends = str(getattr(spec, "dtype", None)), _ends(spec)
    if dtype != "torch.uint8":
        return f"its activations are {dtype}: ONNX Runtime fuses torch.uint8"
    if ends not in ((0, 255), (None, None)):
        return (
            f"its activations are in [{ends[0]}, {ends[1]}], and the QuantizeLinear of ONNX knows "
            "no range but that of its type: take [0, 255]"
        )
    return None


def _ends(spec: Any) -> tuple[Any, Any]:
    return getattr(spec, "quant_min", None), getattr(spec, "quant_max", None)
