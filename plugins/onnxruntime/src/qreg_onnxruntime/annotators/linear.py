"""Linear layers and matmuls, alone and with the clamp that their quantized output does.

With dynamic activations alone: their output stays float, so that there is nothing to fuse with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qreg import ALL_MODES, Annotate, Annotator, Matcher, Rule, patterns
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
from qreg_onnxruntime.reach import BOUNDED, ISLANDS
from qreg_onnxruntime.rules import clamped_around_zero

WEIGHTED = (quantized_operands, constant_weight, nonempty)


def _family(
    name: str, targets: Sequence[str], head: Matcher, annotate: Annotate, *rules: Rule
) -> Iterator[Annotator]:
    fused = (*rules, clamped_around_zero, ISLANDS.feeds_products)
    yield chain(f"{name}_relu", targets, head, BOUNDED, rules=fused, annotate=annotate)
    yield chain(name, targets, head, modes=ALL_MODES, rules=rules, annotate=annotate)


ANNOTATORS = (
    *_family("linear", LINEAR, patterns.weighted(), ISLANDS.product, *WEIGHTED),
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
    chain(
        "matmul",
        MATMUL,
        patterns.operands(0, 1),
        rules=(quantized_operands, matrices, nonempty),
        annotate=ISLANDS.product,
    ),
)
