"""Linear layers and products with a constant matrix, alone and with the function behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qreg import Annotate, Annotator, Matcher, Rule, patterns
from qreg.annotators.builders import chain
from qreg.annotators.rules import (
    constant_weight,
    matrices,
    nonempty,
    plain_matrix,
    quantized_operands,
    unscaled_product,
)
from qreg.graph.operators import ADDMM, LINEAR, MATMUL
from qreg_openvino.fusing import ACTIVATIONS
from qreg_openvino.reach import ISLANDS
from qreg_openvino.rules import bounded, rows

WEIGHTED = (quantized_operands, constant_weight, nonempty)


def _family(
    name: str, targets: Sequence[str], head: Matcher, annotate: Annotate, *rules: Rule
) -> Iterator[Annotator]:
    fused = (*rules, bounded)
    yield chain(f"{name}_act", targets, head, ACTIVATIONS, rules=fused, annotate=annotate)
    yield chain(name, targets, head, rules=rules, annotate=annotate)


ANNOTATORS = (
    *_family("linear", LINEAR, patterns.weighted(), ISLANDS.product, *WEIGHTED, rows),
    *_family(
        "addmm",
        ADDMM,
        patterns.weighted(1, 2, 0),
        ISLANDS.product_along_axis_1,
        *WEIGHTED,
        unscaled_product,
    ),
    *_family(
        "matmul_weight",
        MATMUL,
        patterns.weighted(),
        ISLANDS.product_along_axis_1,
        *WEIGHTED,
        matrices,
        plain_matrix,
    ),
)
