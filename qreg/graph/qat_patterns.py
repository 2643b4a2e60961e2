"""Patterns of QAT, exported only for convolutions that a graph may have.

``prepare_qat_pt2e`` scales convolutions by the batch norms that read them, and ``convert_pt2e``
folds both. torchao 0.18.0 exports every pattern for this anew, for each model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from itertools import product
from typing import Any

import torch
from torch.fx import GraphModule

from qreg.graph.compat import EXPORT, FOLD, FUSE, PATTERNS, REPLACE, replaced_in_qat

KINDS = ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d")
CONVOLUTIONS = {getattr(torch.ops.aten, name) for name in KINDS}
QUANTIZE = "quantized_decomposed.quantize_per_"


@contextmanager
def fusing_present_convolutions() -> Iterator[None]:
    """Make ``prepare_qat_pt2e`` search only for the kinds of convolution that the graph has.

    torchao 0.18.0 exports three patterns for each of four kinds if the graph has a batch norm.
    """
    with replaced_in_qat(FUSE, partial(_only_where_possible, ())):
        yield


@contextmanager
def folding_where_qat_scaled() -> Iterator[None]:
    """Make ``convert_pt2e`` search only for scaled convolutions of QAT that there may be.

    torchao 0.18.0 exports 24 patterns for each of four kinds of convolution if the graph has a
    batch norm, whether or not the model comes from QAT. The export lasts 27 s. Each pattern
    contains the convolution, and the division by the scale that ``prepare_qat_pt2e`` inserts
    upstream of the batch norm. Without a match the graph does not change.
    """
    divided = partial(_only_where_possible, (torch.ops.aten.div,))
    with replaced_in_qat(FOLD, _in_present_variants), replaced_in_qat(FOLD, divided):
        yield


def _only_where_possible(needed: Collection[Any], search: Callable[..., GraphModule]) -> Any:
    """Return a search for patterns of a convolution that skips graphs without the operators."""

    @wraps(search)
    def searched(graph_module: GraphModule, conv: Any, *others: Any, **options: Any) -> GraphModule:
        operators = {getattr(n.target, "overloadpacket", None) for n in graph_module.graph.nodes}
        if not {*needed, getattr(torch.ops.aten, conv.__name__)} <= operators:
            return graph_module
        return search(graph_module, conv, *others, **options)

    return searched


def _in_present_variants(fold: Callable[..., GraphModule]) -> Callable[..., GraphModule]:
    """Return a fold that exports and searches only for variants that the graph may have."""

    @wraps(fold)
    def folded(graph_module: GraphModule, *others: Any, **options: Any) -> GraphModule:
        variants = _variants(graph_module)
        with ExitStack() as stack:
            for name in PATTERNS:
                stack.enter_context(replaced_in_qat(name, partial(_none_unless_in, variants)))
            stack.enter_context(replaced_in_qat(EXPORT, partial(_unless_none, None)))
            stack.enter_context(replaced_in_qat(REPLACE, partial(_unless_none, [])))
            return fold(graph_module, *others, **options)

    return folded


def _variants(graph_module: GraphModule) -> set[tuple[bool, ...]]:
    """Return the variants of scaled convolutions that a converted graph may have.

    A variant tells whether the weight is quantized per channel, whether there is a bias, whether
    it is quantized, and whether the batch norm is in training mode.
    """
    aten, nodes = torch.ops.aten, list(graph_module.graph.nodes)
    read = [(str(n.target), n.args[0].target) for n in nodes if str(n.target).startswith(QUANTIZE)]
    weights = {"channel" in target for target, source in read if source is aten.mul.Tensor}
    convolutions = [n for n in nodes if getattr(n.target, "overloadpacket", None) in CONVOLUTIONS]
    biased = {len(n.args) > 2 and n.args[2] is not None for n in convolutions}
    rounded = aten.zeros_like.default in {source for _, source in read}
    modes = {bool(n.args[5]) for n in nodes if n.target is aten.batch_norm.default}
    return set(product(weights, biased, {False, rounded}, modes))


def _none_unless_in(variants: Collection[tuple[bool, ...]], make: Callable[..., Any]) -> Any:
    def made(*flags: Any) -> Any:
        *kind, _, mode = flags  # a convolution between them
        return make(*flags) if (*kind, mode) in variants else None

    return made


def _unless_none(otherwise: Any, call: Callable[..., Any]) -> Any:
    """Return a call that is skipped for a pattern that is None, which it gets first or second."""
    return lambda *of, **named: otherwise if None in of[:2] else call(*of, **named)
