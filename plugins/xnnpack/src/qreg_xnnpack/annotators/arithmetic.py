"""Addition, subtraction and multiplication of two tensors, and cat."""

from __future__ import annotations

from attrs import evolve

from qreg import Annotator, patterns
from qreg.annotators.annotate import carried_on, shared_in_and_out, standard
from qreg.annotators.builders import chain
from qreg.annotators.rules import (
    moderate_constants,
    nonempty,
    quantized_operands,
    several_inputs,
    unscaled,
    with_dimensions,
)
from qreg.graph.operators import ADD, CAT, MUL, RELU, SUB
from qreg_xnnpack.constant_operands import apart_from_float
from qreg_xnnpack.delegate import apart_from_norms, computed_with

BOTH = patterns.operands(0, 1)
STANDARD = apart_from_float(standard)
SUM_RULES = (quantized_operands, moderate_constants, with_dimensions, unscaled)
PRODUCT_RULES = (quantized_operands, moderate_constants, with_dimensions)

ANNOTATORS = (
    chain("add_relu", ADD, BOTH, RELU, rules=SUM_RULES, annotate=STANDARD),
    chain("add", ADD, BOTH, rules=(*SUM_RULES, apart_from_norms), annotate=STANDARD),
    chain("sub", SUB, BOTH, rules=SUM_RULES, annotate=STANDARD),
    # The delegate does not fuse relu into mul: each runs separately.
    chain("mul_relu", MUL, BOTH, RELU, rules=PRODUCT_RULES, annotate=apart_from_float(carried_on)),
    evolve(
        chain("mul", MUL, BOTH, rules=PRODUCT_RULES, annotate=STANDARD),
        summary="mul; a division by a constant becomes one",
    ),
    Annotator(
        "cat",
        CAT,
        patterns.listed(),
        rules=(quantized_operands, several_inputs, nonempty, computed_with),
        annotate=shared_in_and_out,
        summary="cat of two or more tensors with shared qparams; stack, and a write to a slice, "
        "become one",
    ),
)
