"""Linear layers and products with a constant matrix, alone and with a fused activation."""

from __future__ import annotations

from qreg.annotators.families import products
from qreg_openvino.fusing import ACTIVATIONS
from qreg_openvino.reach import ISLANDS
from qreg_openvino.rules import bounded, rows

ANNOTATORS = tuple(
    products(ISLANDS, ACTIVATIONS, "act", linear_rules=(rows,), fused_rules=(bounded,))
)
