"""The patterns that XNNPACK runs in int8, one module per family.

``ANNOTATORS`` are listed in matching order: a pattern precedes its own prefixes.
``OP_TO_ANNOTATOR`` maps their names to functions that annotate a whole graph, the form that users
of executorch's quantizer know.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve

from qreg import Annotator
from qreg_xnnpack.annotators import activations, arithmetic, conv, embedding, linear, shape
from qreg_xnnpack.annotators.recurrent import GRU_IO_ONLY
from qreg_xnnpack.delegate import sizes_known_before_the_data

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig

GraphAnnotator: TypeAlias = "Callable[..., list[list[Node]]]"

ANNOTATORS: tuple[Annotator, ...] = tuple(
    evolve(each, rules=(sizes_known_before_the_data, *each.rules))
    for each in (
        *conv.ANNOTATORS,
        *linear.ANNOTATORS,
        *arithmetic.ANNOTATORS,
        *activations.ANNOTATORS,
        *shape.ANNOTATORS,
        *embedding.ANNOTATORS,
    )
)


def _annotate(
    annotator: Annotator,
    graph_module: GraphModule,
    quantization_config: QuantizationConfig | None,
    filter_fn: Callable[[Node], bool] | None = None,
) -> list[list[Node]]:
    from qreg.quantizer.annotation_pass import annotate_with

    return annotate_with((annotator,), graph_module, quantization_config, filter_fn)


OP_TO_ANNOTATOR: dict[str, GraphAnnotator] = {
    annotator.name: partial(_annotate, annotator) for annotator in (*ANNOTATORS, GRU_IO_ONLY)
}
