"""Build sets of annotators, for backends whose kernels fuse a compute operator with the next one.

``fused`` are the operators that the backend fuses with a compute operator. ``suffix`` ends the
names of patterns that include one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from qreg.annotators import patterns
from qreg.annotators.builders import carrying, chain, continuing
from qreg.annotators.profitability import Islands
from qreg.annotators.rules import (
    batched,
    constant_weight,
    matrices,
    nonempty,
    output_with_dimensions,
    plain_matrix,
    pooled_to_one,
    quantized_operands,
    spatial_mean,
    unscaled_product,
)
from qreg.graph.operators import (
    ADDMM,
    BATCH_NORM,
    CONVOLUTIONS,
    COPIES,
    GLOBAL_POOLS,
    LINEAR,
    MATMUL,
    MEANS,
    PERMUTES,
    SHUFFLES,
    SLICE,
    UPSAMPLES,
    VIEWS,
)
from qreg.plugins.types.annotator import Annotate, Annotator, Matcher, Rule
from qreg.plugins.types.backend import STATIC, Mode

QAT: frozenset[Mode] = frozenset({"qat"})


def convolutions(
    annotate: Annotate,
    fused: Iterable[str],
    suffix: str,
    *,
    rules: Sequence[Rule] = (),
    fused_rules: Sequence[Rule] = (),
) -> Iterator[Annotator]:
    """Yield annotators for convolutions, alone and with batch norm and fused operators.

    Batch norm is a part of the pattern in QAT only, since prepare folds it ahead of time in the
    other modes. ``fused_rules`` apply to patterns that end in a fused operator.
    """
    asked = (quantized_operands, constant_weight, batched, *rules, nonempty)

    def conv(
        name: str, *followers: Iterable[str], modes: frozenset[Mode] = STATIC, more: bool = False
    ) -> Annotator:
        return chain(
            name,
            CONVOLUTIONS,
            patterns.weighted(),
            *followers,
            modes=modes,
            rules=(*asked, *fused_rules) if more else asked,
            annotate=annotate,
            summary="conv1d, conv2d or conv3d",
        )

    yield conv(f"conv_bn_{suffix}", BATCH_NORM, fused, modes=QAT, more=True)
    yield conv("conv_bn", BATCH_NORM, modes=QAT)
    yield conv(f"conv_{suffix}", fused, more=True)
    yield conv("conv")


def products(
    islands: Islands,
    fused: Iterable[str],
    suffix: str,
    *,
    modes: Iterable[Mode] = STATIC,
    linear_rules: Sequence[Rule] = (),
    fused_rules: Sequence[Rule] = (),
) -> Iterator[Annotator]:
    """Yield annotators for linear layers and matmuls with a constant, alone and fused.

    ``modes`` are the modes of the patterns that consist of one operator.
    """
    along = islands.product_along_axis_1
    kinds: tuple[tuple[str, Sequence[str], Matcher, Annotate, Sequence[Rule]], ...] = (
        ("linear", LINEAR, patterns.weighted(), islands.product, linear_rules),
        ("addmm", ADDMM, patterns.weighted(1, 2, 0), along, (unscaled_product,)),
        ("matmul_weight", MATMUL, patterns.weighted(), along, (matrices, plain_matrix)),
    )
    for name, targets, head, annotate, more in kinds:
        rules = (quantized_operands, constant_weight, nonempty, *more)
        both = (*rules, *fused_rules)
        yield chain(f"{name}_{suffix}", targets, head, fused, rules=both, annotate=annotate)
        yield chain(name, targets, head, modes=modes, rules=rules, annotate=annotate)


def means(islands: Islands) -> Iterator[Annotator]:
    """Yield annotators for the mean of each channel of an image, in both forms that torch has."""
    pooling, mean = "global average pooling", "mean of each channel of an image"
    yield continuing(islands, "adaptive_avg_pool2d", GLOBAL_POOLS, pooled_to_one, summary=pooling)
    yield continuing(islands, "mean", MEANS, spatial_mean, summary=mean)


def moving(
    *rules: Rule, slices: Sequence[str] = SLICE, enlarging: Sequence[Rule] = ()
) -> Iterator[Annotator]:
    """Yield annotators for the operators that only move values, ``MOVES``.

    ``rules`` are for all of them but permutes and copies, which runtimes move or remove. ``slices``
    are the operators that cut out a part, ``enlarging`` the rules for enlarged images.
    """
    yield carrying("view", VIEWS, nonempty, output_with_dimensions, *rules)
    yield carrying("permute", PERMUTES, nonempty)
    yield carrying("slice", slices, nonempty, output_with_dimensions, *rules)
    yield carrying("clone", COPIES, nonempty)
    yield carrying("upsample_nearest2d", UPSAMPLES, *enlarging, nonempty, *rules)
    yield carrying("pixel_shuffle", SHUFFLES, nonempty, *rules)
