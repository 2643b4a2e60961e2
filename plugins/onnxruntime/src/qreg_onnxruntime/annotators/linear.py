"""Linear layers and matmuls, alone and with the clamp that their quantized output implies.

Dynamic activations support them alone only: the output stays in float, so no clamp can be fused.
"""

from __future__ import annotations

from qreg import ALL_MODES, patterns
from qreg.annotators.builders import chain
from qreg.annotators.families import products
from qreg.annotators.rules import matrices, nonempty, quantized_operands
from qreg.graph.operators import MATMUL
from qreg_onnxruntime.reach import BOUNDED, ISLANDS
from qreg_onnxruntime.rules import clamped_around_zero

ANNOTATORS = (
    *products(
        ISLANDS,
        BOUNDED,
        "relu",
        modes=ALL_MODES,
        fused_rules=(clamped_around_zero, ISLANDS.feeds_products),
    ),
    chain(
        "matmul",
        MATMUL,
        patterns.operands(0, 1),
        rules=(quantized_operands, matrices, nonempty),
        annotate=ISLANDS.product,
    ),
)
