"""The patterns that OpenVINO's CPU plugin runs in integers, in matching order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qreg import WEIGHT, Annotation, Annotator, Match, Refusal, patterns
from qreg.annotators.annotate import output_spec, shared_in_and_out
from qreg.annotators.builders import carrying, chain, continuing
from qreg.annotators.families import convolutions, means, moving, products
from qreg.annotators.profitability import Islands
from qreg.annotators.rules import (
    apart_from_softmax,
    batched_pool,
    constant_weight,
    matrices,
    moderate_constants,
    nonempty,
    quantized_operands,
    several_inputs,
)
from qreg.configs.depthwise import full_range
from qreg.configs.groups import whole_groups
from qreg.graph.operators import (
    ADDMM,
    ATTENTION,
    CAT,
    CLAMPS,
    CONVOLUTIONS,
    GLOBAL_POOLS,
    LINEAR,
    MATMUL,
    MAX_POOLS,
    MEANS,
    MOVES,
    RELU,
)
from qreg_openvino.rules import (
    bounded,
    eight_bits,
    fused_dimensions,
    plain_average,
    plain_maximum,
    rows,
    several_rows,
    values_apart,
)
from qreg_openvino.transposed import transposed
from qreg_openvino.zero_points import attention, symmetric, with_zero_point

if TYPE_CHECKING:
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

POOLS = ("aten.avg_pool2d.default",)
ISLANDS = Islands(
    products=frozenset({*CONVOLUTIONS, *LINEAR, *ADDMM, *MATMUL}),
    passing=frozenset({*CAT, *MEANS, *POOLS, *GLOBAL_POOLS, *MAX_POOLS, *MOVES}),
    constant_factor=True,
)
# The elementwise functions that the plugin fuses into the compute operator upstream.
ACTIVATIONS = (
    *RELU,
    *CLAMPS,
    *("aten.gelu.default", "aten.silu.default", "aten.sigmoid.default", "aten.tanh.default"),
    *("aten.hardswish.default", "aten.hardsigmoid.default"),
    *("aten.leaky_relu.default", "aten.elu.default"),
)
CAT_RULES = (
    *(quantized_operands, several_inputs, moderate_constants, nonempty),
    ISLANDS.feeds_products,
)
BOTH, FACTORS = patterns.operands(0, 1), (quantized_operands, nonempty)
MATRICES = (*FACTORS, matrices, apart_from_softmax, eight_bits)


def joined(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """Share qparams between the inputs and the output of a cat if every input is quantized.

    With separate qparams, the plugin quantizes the inputs a second time.
    """
    if all(output_spec(node) is not None for node in match.inputs):
        return shared_in_and_out(match, config)
    return Refusal("not all inputs are quantized: an int8 cat would only add conversions")


def multiplied(match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
    """Annotate a product of two activations, both symmetric."""
    return with_zero_point(match) or ISLANDS.product(match, symmetric(config))


ANNOTATORS: tuple[Annotator, ...] = (
    *convolutions(full_range(ISLANDS.product), ACTIVATIONS, "act", fused_rules=(bounded,)),
    *transposed(ISLANDS, ACTIVATIONS, bounded),
    *products(
        ISLANDS,
        ACTIVATIONS,
        "act",
        linear_rules=(rows,),
        fused_rules=(bounded, fused_dimensions),
    ),
    Annotator(
        "linear_weight",
        LINEAR,
        patterns.weighted(),
        modes=WEIGHT,
        rules=(constant_weight, rows, several_rows, whole_groups),
        summary="linear with float activations",
    ),
    chain(
        "attention", ATTENTION, BOTH, rules=(*FACTORS, values_apart, eight_bits), annotate=attention
    ),
    chain("matmul", MATMUL, BOTH, rules=MATRICES, annotate=multiplied),
    chain("cat", CAT, patterns.listed(), rules=CAT_RULES, annotate=joined),
    continuing(ISLANDS, "avg_pool", POOLS, batched_pool, plain_average),
    *means(ISLANDS),
    carrying("max_pool", MAX_POOLS, batched_pool, plain_maximum, nonempty),
    *moving(),
)
