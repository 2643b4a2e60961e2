"""Convolutions, with what folds into them or is fused behind them.

Batch norm is a part of the pattern in QAT only, since prepare_pt2e has folded it before. Transposed
convolutions stay in float: the kernel for integers takes no zero point.
"""

from __future__ import annotations

from collections.abc import Iterable

from qreg import STATIC, Annotator, Mode, Rule, patterns
from qreg.annotators.builders import chain
from qreg.annotators.rules import batched, constant_weight, nonempty, quantized_operands
from qreg.configs.depthwise import full_range
from qreg.graph.operators import BATCH_NORM
from qreg_openvino.fusing import ACTIVATIONS
from qreg_openvino.reach import CONVOLUTIONS, ISLANDS
from qreg_openvino.rules import bounded, several_channels

QAT: frozenset[Mode] = frozenset({"qat"})


def _conv(
    name: str,
    *followers: Iterable[str],
    modes: frozenset[Mode] = STATIC,
    rules: tuple[Rule, ...] = (),
) -> Annotator:
    return chain(
        name,
        CONVOLUTIONS,
        patterns.weighted(),
        *followers,
        modes=modes,
        rules=(quantized_operands, constant_weight, batched, several_channels, nonempty, *rules),
        annotate=full_range(ISLANDS.product),
        summary="conv1d, conv2d or conv3d",
    )


ANNOTATORS = (
    _conv("conv_bn_act", BATCH_NORM, ACTIVATIONS, modes=QAT, rules=(bounded,)),
    _conv("conv_bn", BATCH_NORM, modes=QAT),
    _conv("conv_act", ACTIVATIONS, rules=(bounded,)),
    _conv("conv"),
)
