"""Translations of dynamic quantization, whose ranges are found at run time, to ONNX operators.

torch.onnx translates quantizations with fixed ranges only. ONNX has one operator that finds the
range and quantizes, so the translation of ``quantize`` only passes its result on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def dynamic() -> dict[Any, Callable[..., Any]]:
    """Return the translations for ``torch.onnx.export(custom_translation_table=...)``."""
    import torch
    from onnxscript import opset18 as op

    def choose_parameters(x: Any, low: int, high: int, eps: float, dtype: int) -> Any:
        _, scale, zero = op.DynamicQuantizeLinear(x)
        return scale, zero

    def quantize(x: Any, scale: Any, zero: Any, low: int, high: int, dtype: int) -> Any:
        chosen = scale.producer()
        done = chosen is not None and chosen.op_type == "DynamicQuantizeLinear"
        if done and chosen.inputs[0] is x:
            return chosen.outputs[0]
        return op.QuantizeLinear(x, scale, zero)

    def dequantize(
        x: Any, scale: Any, zero: Any, low: int, high: int, dtype: int, out_dtype: int = -1
    ) -> Any:
        return op.DequantizeLinear(x, scale, zero)

    decomposed = torch.ops.quantized_decomposed
    return {
        decomposed.choose_qparams.tensor: choose_parameters,
        decomposed.quantize_per_tensor.tensor: quantize,
        decomposed.dequantize_per_tensor.tensor: dequantize,
    }
