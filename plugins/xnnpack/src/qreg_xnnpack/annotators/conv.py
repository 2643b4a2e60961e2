"""Convolutions, plain and transposed, with what folds into them or is fused behind them.

Batch norm is a part of the pattern in QAT only, since prepare_pt2e has folded it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from qreg import Annotation, Annotator, Refusal, patterns
from qreg.annotation import standard, with_channel_axis
from qreg.model import ALL_MODES, STATIC, Match, Mode
from qreg_xnnpack.annotators.linear import CLAMPS, RELU
from qreg_xnnpack.delegate import (
    batched,
    dynamic_conv,
    dynamic_per_channel,
    int8_operands,
    int8_weight,
    one_group,
    planar,
    unshared_bias,
    zero_padding,
)

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

CONV = ("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default")
TRANSPOSED = (
    "aten.conv_transpose1d.default",
    "aten.conv_transpose2d.input",
    "aten.conv_transpose3d.input",
)
BATCH_NORM = ("aten.batch_norm.default",)
PAD = ("aten.pad.default", "aten.constant_pad_nd.default")

WEIGHTED = (planar, batched, int8_operands, int8_weight, unshared_bias, dynamic_per_channel)
QAT: frozenset[Mode] = frozenset({"qat"})


def along_axis_1(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """A transposed convolution has its output channels along axis 1 of the weight."""
    return standard(match, with_channel_axis(config, 1))


def _family() -> Iterator[Annotator]:
    yield _conv("conv_bn_relu", BATCH_NORM, RELU, modes=QAT)
    yield _conv("conv_bn", BATCH_NORM, modes=QAT)
    yield _transposed("conv_transpose_bn_relu", BATCH_NORM, RELU, modes=QAT)
    yield _transposed("conv_transpose_bn", BATCH_NORM, modes=QAT)
    yield _padded("pad_conv_relu", RELU)
    yield _padded("pad_conv_clamp", CLAMPS)
    yield _padded("pad_conv")
    yield _conv("conv_relu", RELU)
    yield _conv("conv_clamp", CLAMPS)
    yield _conv("conv", modes=ALL_MODES)
    yield _transposed("conv_transpose_relu", RELU)
    yield _transposed("conv_transpose_clamp", CLAMPS)
    yield _transposed("conv_transpose", modes=ALL_MODES)


def _conv(name: str, *followers: Iterable[str], modes: frozenset[Mode] = STATIC) -> Annotator:
    return Annotator(
        name,
        CONV,
        patterns.fused(patterns.weighted(), *followers),
        modes,
        (*WEIGHTED, dynamic_conv),
        summary=_summary("conv1d or conv2d", followers),
    )


def _transposed(name: str, *followers: Iterable[str], modes: frozenset[Mode] = STATIC) -> Annotator:
    return Annotator(
        name,
        TRANSPOSED,
        patterns.fused(patterns.weighted(), *followers),
        modes,
        (*WEIGHTED, one_group, dynamic_conv),
        along_axis_1,
        summary=_summary("conv_transpose1d or conv_transpose2d", followers),
    )


def _padded(name: str, *followers: Iterable[str]) -> Annotator:
    return Annotator(
        name,
        PAD,
        patterns.fused(patterns.leading(patterns.weighted(), CONV), *followers),
        rules=(zero_padding, *WEIGHTED),
        summary=_summary("zero padding, then conv1d or conv2d", followers),
    )


def _summary(head: str, followers: Sequence[Iterable[str]]) -> str:
    names = [" or ".join(name.split(".")[1] for name in names) for names in followers]
    return ", then ".join([head, *names])


ANNOTATORS = tuple(_family())
