"""Names that torch and torchao keep private, in the one place that knows them.

Each with the version it was seen in; ``tests/graph/test_compat.py`` notices when one moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.experimental.symbolic_shapes import guarding_hint_or_throw, has_guarding_hint

# torchao 0.18.0; of these observers only the base is exported.
from torchao.quantization.pt2e import qat_utils
from torchao.quantization.pt2e._affine_quantization import (
    AffineQuantizedMinMaxObserver,
    AffineQuantizedMovingAverageMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

# torchao 0.18.0; the key is not exported from torchao.quantization.pt2e.quantizer.
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from qreg.plugins.types.annotator import Annotation


FOLD = "_fold_conv_bn_qat_helper"  # torchao 0.18.0: once for each kind of convolution
# Affine observers that observe a range; the others are placeholders.
AFFINE_RANGED = (AffineQuantizedMinMaxObserver, AffineQuantizedMovingAverageMinMaxObserver)


def made_by(factory: Any) -> tuple[Any, dict[str, Any]]:
    """The class that an observer factory makes, and the arguments that it makes it with."""
    # torchao 0.18.0: what with_args returns keeps a functools.partial in `p`.
    inner = getattr(factory, "p", None)
    return (inner.func, dict(inner.keywords)) if isinstance(inner, partial) else (factory, {})


def annotation_of(node: Node) -> QuantizationAnnotation | None:
    """The node's annotation, or None if it has none that counts."""
    found = node.meta.get(Q_ANNOTATION_KEY)
    # torchao 0.18.0: `_annotated` is what its quantizers ask each other.
    return found if found is not None and found._annotated else None


def annotate_node(node: Node, annotation: Annotation | None) -> QuantizationAnnotation:
    """Writes an annotation to its node; None marks the node as taken, without specs."""
    written = QuantizationAnnotation(
        input_qspec_map=dict(annotation.inputs) if annotation else {},
        output_qspec=annotation.output if annotation else None,
        _annotated=True,
    )
    restore_annotation(node, written)
    return written


def restore_annotation(node: Node, annotation: QuantizationAnnotation | None) -> None:
    """Gives a node an annotation of torchao's; None takes away the one that it has."""
    node.meta.pop(Q_ANNOTATION_KEY, None)
    if annotation is not None:
        node.meta[Q_ANNOTATION_KEY] = annotation


def size_hint(size: int | torch.SymInt) -> int | None:
    """A size of a tensor as it was in the example that a model was exported with.

    None where only the data tells, as the number of elements that are not zero.
    """
    # torch 2.13.0: symbolic_shapes is experimental, and its functions for hints change their names.
    return int(guarding_hint_or_throw(size)) if has_guarding_hint(size) else None


@contextmanager
def folding_where_qat_scaled() -> Iterator[None]:
    """Lets ``convert_pt2e`` look for the scaled convolutions of QAT only where there may be some.

    torchao 0.18.0 exports 24 patterns for each of four kinds of convolution as soon as a batch norm
    is in the graph, which takes 27 s, be the model from QAT or not. Each of them has the
    convolution, and the division by the scale that ``prepare_qat_pt2e`` put in front of the batch
    norm. Without a match the graph stays as it is.
    """
    fold = getattr(qat_utils, FOLD)
    setattr(qat_utils, FOLD, _only_where_possible(fold))
    try:
        yield
    finally:
        setattr(qat_utils, FOLD, fold)


def _only_where_possible(fold: Callable[..., GraphModule]) -> Callable[..., GraphModule]:
    @wraps(fold)
    def folded(
        graph_module: GraphModule, conv: Any, *arguments: Any, **options: Any
    ) -> GraphModule:
        operators = {getattr(n.target, "overloadpacket", None) for n in graph_module.graph.nodes}
        if not {torch.ops.aten.div, getattr(torch.ops.aten, conv.__name__)} <= operators:
            return graph_module
        return fold(graph_module, conv, *arguments, **options)

    return folded
