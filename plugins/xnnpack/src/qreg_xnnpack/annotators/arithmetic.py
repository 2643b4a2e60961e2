"""Sums, differences and products of two tensors, and cat."""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.annotation import carried_on, shared_in_and_out
from qreg_xnnpack.annotators.linear import RELU
from qreg_xnnpack.delegate import (
    int8_operands,
    moderate_constants,
    several_inputs,
    unscaled,
    with_dimensions,
)

ADD, SUB, MUL = ("aten.add.Tensor",), ("aten.sub.Tensor",), ("aten.mul.Tensor",)
BOTH = patterns.operands(0, 1)
SUM_RULES = (int8_operands, moderate_constants, with_dimensions, unscaled)
PRODUCT_RULES = (int8_operands, moderate_constants, with_dimensions)


ANNOTATORS = (
    Annotator(
        "add_relu",
        ADD,
        patterns.fused(BOTH, RELU),
        rules=SUM_RULES,
        summary="add, then relu",
    ),
    Annotator("add", ADD, BOTH, rules=SUM_RULES, summary="add"),
    Annotator("sub", SUB, BOTH, rules=SUM_RULES, summary="sub"),
    Annotator(
        "mul_relu",
        MUL,
        patterns.fused(BOTH, RELU),
        rules=PRODUCT_RULES,
        # The delegate does not fuse relu behind mul: each runs on its own.
        annotate=carried_on,
        summary="mul, then relu, which run one after the other",
    ),
    Annotator("mul", MUL, BOTH, rules=PRODUCT_RULES, summary="mul"),
    Annotator(
        "cat",
        ("aten.cat.default",),
        patterns.listed(),
        rules=(int8_operands, several_inputs),
        annotate=shared_in_and_out,
        summary="cat of two tensors or more, all on the same parameters",
    ),
)
