"""Convolutions, with what folds into them or is fused behind them.

Batch norm is a part of the pattern in QAT only, since prepare_pt2e has folded it before. Transposed
convolutions have no integer kernel.
"""

from __future__ import annotations

from collections.abc import Iterable

from qreg import STATIC, Annotator, Mode, patterns
from qreg.annotators.annotate import standard
from qreg.annotators.builders import chain
from qreg.annotators.rules import batched, constant_weight, nonempty, quantized_operands
from qreg.configs.depthwise import full_range
from qreg.graph.operators import BATCH_NORM, CONV
from qreg_onnxruntime.reach import BOUNDED
from qreg_onnxruntime.rules import clamped_around_zero

TARGETS = (*CONV, "aten.conv1d.padding", "aten.conv2d.padding")
QAT: frozenset[Mode] = frozenset({"qat"})
RULES = (quantized_operands, constant_weight, batched, nonempty, clamped_around_zero)


def _conv(name: str, *followers: Iterable[str], modes: frozenset[Mode] = STATIC) -> Annotator:
    return chain(
        name,
        TARGETS,
        patterns.weighted(),
        *followers,
        modes=modes,
        rules=RULES,
        annotate=full_range(standard),
        summary="conv1d, conv2d or conv3d",
    )


ANNOTATORS = (
    _conv("conv_bn_relu", BATCH_NORM, BOUNDED, modes=QAT),
    _conv("conv_bn", BATCH_NORM, modes=QAT),
    _conv("conv_relu", BOUNDED),
    _conv("conv"),
)
