"""Translations of quantizations that torch.onnx does not know to ONNX operators.

torch.onnx translates quantizations with fixed ranges only. For ranges that are found at run time,
ONNX has one operator that finds the range and quantizes, so the translation of ``quantize`` only
passes its result on. Weights in groups are symmetric, so that they need no zero points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def translations() -> dict[Any, Callable[..., Any]]:
    """Return the translations for ``torch.onnx.export(custom_translation_table=...)``."""
    import torch
    import torchao.quantization.quant_primitives  # noqa: F401  # registers dequantize_affine
    from onnxscript import opset18 as op
    from onnxscript import opset21 as blocked

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

    def dequantize_groups(
        x: Any,
        block_size: Sequence[int],
        scale: Any,
        zero: Any,
        dtype: int,
        low: int | None = None,
        high: int | None = None,
        output_dtype: int = -1,
    ) -> Any:
        return blocked.DequantizeLinear(x, scale, axis=1, block_size=block_size[1])

    decomposed = torch.ops.quantized_decomposed
    return {
        torch.ops.torchao.dequantize_affine.default: dequantize_groups,
        decomposed.choose_qparams.tensor: choose_parameters,
        decomposed.quantize_per_tensor.tensor: quantize,
        decomposed.dequantize_per_tensor.tensor: dequantize,
    }
