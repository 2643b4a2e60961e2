"""The patterns that ONNX Runtime runs in integers, in matching order.

Transposed convolutions have no integer kernel. Those of softmax and of averages over windows are
slower than the float kernels with their conversions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qreg import ALL_MODES, WEIGHT, Annotator, Rule, patterns
from qreg.annotators.annotate import standard
from qreg.annotators.builders import carrying, chain, continuing
from qreg.annotators.families import convolutions, means, moving, products
from qreg.annotators.profitability import Islands
from qreg.annotators.rules import (
    apart_from_softmax,
    batched_pool,
    clamped_around_zero,
    constant_weight,
    matrices,
    moderate_constants,
    nonempty,
    quantized_operands,
    unscaled,
)
from qreg.configs.depthwise import full_range
from qreg.configs.groups import whole_groups
from qreg.graph.operators import (
    ADD,
    ADDMM,
    CAT,
    CONVOLUTIONS,
    EXPAND,
    GLOBAL_POOLS,
    LINEAR,
    MATMUL,
    MAX_POOLS,
    MEANS,
    MOVES,
    MUL,
)
from qreg_onnxruntime.clamps import BOUNDED, SLICES, unclamped
from qreg_onnxruntime.rules import doubled

SIGMOID, LEAKY_RELU = ("aten.sigmoid.default",), ("aten.leaky_relu.default",)
ISLANDS = Islands(
    products=frozenset({*CONVOLUTIONS, *LINEAR, *ADDMM, *MATMUL}),
    passing=frozenset(
        {*ADD, *MUL, *CAT, *BOUNDED, *MEANS, *GLOBAL_POOLS, *MAX_POOLS}
        | {*SIGMOID, *LEAKY_RELU, *MOVES, *SLICES, *EXPAND}
    ),
)
BOTH = patterns.operands(0, 1)
RULES = (
    *(quantized_operands, moderate_constants, nonempty),
    # The runtime removes a clamp that quantized values imply, and runs any other one in float,
    # together with the operator upstream.
    *(clamped_around_zero, ISLANDS.feeds_products),
)


def _family(name: str, targets: Sequence[str], *rules: Rule) -> Iterator[Annotator]:
    asked = (*RULES, *rules)
    yield chain(f"{name}_relu", targets, BOTH, BOUNDED, rules=asked, annotate=ISLANDS.continued)
    yield chain(name, targets, BOTH, rules=asked, annotate=ISLANDS.continued)


ANNOTATORS: tuple[Annotator, ...] = (
    *convolutions(full_range(standard), BOUNDED, "relu", fused_rules=(clamped_around_zero,)),
    # Dynamic activations support a product alone only: its output stays in float.
    *products(
        ISLANDS,
        BOUNDED,
        "relu",
        modes=ALL_MODES,
        fused_rules=(clamped_around_zero, ISLANDS.feeds_products),
    ),
    Annotator(
        "linear_weight",
        LINEAR,
        patterns.weighted(),
        modes=WEIGHT,
        rules=(constant_weight, whole_groups),
        summary="linear with float activations",
    ),
    chain(
        "matmul",
        MATMUL,
        BOTH,
        rules=(quantized_operands, matrices, nonempty, apart_from_softmax),
        annotate=ISLANDS.product,
    ),
    *_family("add", ADD, unscaled),
    *_family("mul", MUL),
    # The kernel supports separate qparams for each input. With shared qparams, the quantization of
    # an input would no longer imply the relu upstream of it.
    chain("cat", CAT, patterns.listed(), rules=RULES, annotate=ISLANDS.continued),
    *means(ISLANDS),
    carrying("max_pool", MAX_POOLS, batched_pool, nonempty, unclamped),
    continuing(ISLANDS, "sigmoid", SIGMOID),
    continuing(ISLANDS, "leaky_relu", LEAKY_RELU),
    continuing(ISLANDS, "relu", BOUNDED, clamped_around_zero),
    *moving(unclamped, slices=SLICES, enlarging=(doubled,)),
    carrying("expand", EXPAND, nonempty, unclamped),
)
