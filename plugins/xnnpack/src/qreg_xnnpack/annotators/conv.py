"""Convolutions, plain and transposed, with operators that are folded or fused into them.

Batch norm is part of the pattern in QAT only; otherwise prepare_pt2e folds it first.
"""

from __future__ import annotations

from functools import partial

from qreg import ALL_MODES, Annotator, Mode, patterns
from qreg.annotators.annotate import along_axis_1
from qreg.annotators.builders import chain
from qreg.annotators.rules import batched, quantized_operands
from qreg.graph.operators import BATCH_NORM, CONV, PADS, RELU, RELU6, TRANSPOSED
from qreg_xnnpack.delegate import (
    dynamic_conv,
    dynamic_per_channel,
    int8_weight,
    one_group,
    planar,
    unshared_bias,
    zero_padding,
)

WEIGHTED = (planar, batched, quantized_operands, int8_weight, unshared_bias, dynamic_per_channel)
QAT: frozenset[Mode] = frozenset({"qat"})

_conv = partial(
    chain,
    rules=(*WEIGHTED, dynamic_conv),
    summary="conv1d or conv2d",
)
_transposed = partial(
    chain,
    rules=(*WEIGHTED, one_group, dynamic_conv),
    annotate=along_axis_1,
    summary="conv_transpose1d or conv_transpose2d",
)
_padded = partial(
    chain,
    rules=(zero_padding, *WEIGHTED),
    summary="zero padding, then conv1d or conv2d",
)
PLAIN = patterns.weighted()
BEHIND_A_PAD = patterns.leading(PLAIN, CONV)

ANNOTATORS: tuple[Annotator, ...] = (
    _conv("conv_bn_relu", CONV, PLAIN, BATCH_NORM, RELU, modes=QAT),
    _conv("conv_bn", CONV, PLAIN, BATCH_NORM, modes=QAT),
    _transposed("conv_transpose_bn_relu", TRANSPOSED, PLAIN, BATCH_NORM, RELU, modes=QAT),
    _transposed("conv_transpose_bn", TRANSPOSED, PLAIN, BATCH_NORM, modes=QAT),
    _padded("pad_conv_relu", PADS, BEHIND_A_PAD, RELU),
    _padded("pad_conv_clamp", PADS, BEHIND_A_PAD, RELU6),
    _padded("pad_conv", PADS, BEHIND_A_PAD),
    _conv("conv_relu", CONV, PLAIN, RELU),
    _conv("conv_clamp", CONV, PLAIN, RELU6),
    _conv("conv", CONV, PLAIN, modes=ALL_MODES),
    _transposed("conv_transpose_relu", TRANSPOSED, PLAIN, RELU),
    _transposed("conv_transpose_clamp", TRANSPOSED, PLAIN, RELU6),
    _transposed("conv_transpose", TRANSPOSED, PLAIN, modes=ALL_MODES),
)
