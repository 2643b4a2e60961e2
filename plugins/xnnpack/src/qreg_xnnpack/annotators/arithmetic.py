"""Sums and products of two tensors, and cat."""

from __future__ import annotations

from qreg import Annotator, patterns
from qreg.annotation import shared_in_and_out
from qreg_xnnpack.annotators.linear import RELU
from qreg_xnnpack.delegate import int8_operands, several_inputs, small_scalars, unscaled_add

ADD = ("aten.add.Tensor",)
SUM_RULES = (int8_operands, small_scalars, unscaled_add)

ANNOTATORS = (
    Annotator(
        "add_relu",
        ADD,
        patterns.fused(patterns.operands(0, 1), RELU),
        rules=SUM_RULES,
        summary="add followed by relu",
    ),
    Annotator("add", ADD, patterns.operands(0, 1), rules=SUM_RULES, summary="add"),
    Annotator(
        "mul",
        ("aten.mul.Tensor",),
        patterns.operands(0, 1),
        rules=(int8_operands, small_scalars),
        summary="mul",
    ),
    Annotator(
        "cat",
        ("aten.cat.default",),
        patterns.listed(),
        rules=(int8_operands, several_inputs),
        annotate=shared_in_and_out,
        summary="cat of two tensors or more, all on the same parameters",
    ),
)
