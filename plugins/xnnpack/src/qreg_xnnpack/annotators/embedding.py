"""Tables of embeddings, which ExecuTorch looks up in 8, 4 or 2 bits outside the delegate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qreg import WEIGHT, Annotator, Match
from qreg.annotators.rules import constant_weight
from qreg.configs.groups import whole_groups
from qreg.graph.nodes import argument, is_node, shape_of
from qreg_xnnpack.embeddings import bits_of

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


def table(node: Node) -> Match | None:
    """Match a lookup: the table is its weight, and it has no input activation."""
    weight = argument(node, 0)
    return Match((node,), (), weight) if is_node(weight) else None


def by_row(match: Match, config: QuantizationConfig) -> str | None:
    """Require a scale for each row, or several."""
    import torch

    if config.weight.qscheme == torch.per_channel_symmetric:
        return None
    return "a table with one scale: ExecuTorch's operator has one or more for each row"


def whole_bytes(match: Match, config: QuantizationConfig) -> str | None:
    """Require rows that end with a byte."""
    columns, bits = shape_of(match.weight)[-1], bits_of(config.weight)
    if columns * bits % 8 == 0:
        return None
    return f"rows of {columns} values in {bits} bits: ExecuTorch requires rows of whole bytes"


ANNOTATORS = (
    Annotator(
        "embedding",
        ("aten.embedding.default",),
        table,
        modes=WEIGHT,
        rules=(constant_weight, by_row, whole_bytes, whole_groups),
        summary="embedding, whose table is quantized by row or in groups",
    ),
)
