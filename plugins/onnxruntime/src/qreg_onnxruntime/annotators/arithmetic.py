"""Addition and multiplication of two tensors, and cat, between matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qreg import Annotator, Rule, patterns
from qreg.annotators.builders import chain
from qreg.annotators.rules import moderate_constants, nonempty, quantized_operands, unscaled
from qreg.graph.operators import ADD, CAT, MUL
from qreg_onnxruntime.reach import BOUNDED, ISLANDS
from qreg_onnxruntime.rules import clamped_around_zero

BOTH = patterns.operands(0, 1)
RULES = (
    quantized_operands,
    moderate_constants,
    nonempty,
    clamped_around_zero,
    ISLANDS.feeds_products,
)


def _family(name: str, targets: Sequence[str], *rules: Rule) -> Iterator[Annotator]:
    asked = (*RULES, *rules)
    yield chain(f"{name}_relu", targets, BOTH, BOUNDED, rules=asked, annotate=ISLANDS.continued)
    yield chain(name, targets, BOTH, rules=asked, annotate=ISLANDS.continued)


ANNOTATORS = (
    *_family("add", ADD, unscaled),
    *_family("mul", MUL),
    # The kernel supports separate qparams for each input. With shared qparams, the quantization of
    # an input would no longer imply the relu upstream of it.
    chain("cat", CAT, patterns.listed(), rules=RULES, annotate=ISLANDS.continued),
)
