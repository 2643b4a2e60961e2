"""cat, with one set of parameters: with several, the plugin quantizes its inputs a second time."""

from __future__ import annotations

from qreg import patterns
from qreg.families import chain
from qreg.operators import CAT
from qreg.rules import moderate_constants, quantized_operands, several_inputs
from qreg_openvino.annotators.specs import joined
from qreg_openvino.reach import feeds_products
from qreg_openvino.rules import nonempty

RULES = (quantized_operands, several_inputs, moderate_constants, nonempty, feeds_products)

ANNOTATORS = (chain("cat", CAT, patterns.listed(), rules=RULES, annotate=joined),)
