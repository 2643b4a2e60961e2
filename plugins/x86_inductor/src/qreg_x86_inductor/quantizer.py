"""torchao's quantizer for x86, restricted to operators that Inductor runs in int8.

torchao's quantizer annotates some operators that Inductor then computes in float, which only adds
conversions. It fails on a module that is called twice and on third-party annotations, and it does
not find functional calls. The wrapper prepares the graph for it and restores the graph afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qreg_x86_inductor.compat import SOURCE, annotation_class, sources, stand_in
from qreg_x86_inductor.refusals import stays_float

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer


def quantizer(config: QuantizationConfig) -> Quantizer:
    """Return the wrapped quantizer with one global config; qreg limits it to its scope."""
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer

    class Guarded(X86InductorQuantizer):  # type: ignore[misc]
        def annotate(self, model: GraphModule) -> GraphModule:
            with _taken(model, config), _named(model):
                super().annotate(model)
            return model

    Guarded.__name__ = X86InductorQuantizer.__name__
    return Guarded().set_global(config)


@contextmanager
def _taken(model: GraphModule, config: QuantizationConfig) -> Iterator[None]:
    """Mark operators that stay in float, and replace annotations of other quantizers.

    The replacements are in the form that torchao's quantizer can read; the original annotations are
    restored on exit.
    """
    from qreg.graph.compat import annotation_of, restore_annotation

    before = {node: annotation_of(node) for node in model.graph.nodes}
    own = annotation_class()
    marked = {
        node: found
        for node, found in before.items()
        if node.op == "call_function" and _needs_mark(node, found, own, config)
    }
    for node, found in marked.items():
        restore_annotation(node, stand_in(found is not None and found.output_qspec is not None))
    try:
        yield
    finally:
        for node, found in marked.items():
            restore_annotation(node, found)


def _needs_mark(node: Node, found: Any, own: Any, config: QuantizationConfig) -> bool:
    return stays_float(node, config) if found is None else not isinstance(found, own)


@contextmanager
def _named(model: GraphModule) -> Iterator[None]:
    """Record a separate source for each known operator, so that torchao finds it.

    torchao finds operators by the module that they come from: it does not find functional calls and
    fails on a convolution that is called twice.
    """
    from qreg.graph.nodes import called, calls

    known = sources()
    found = {node: known[called(node)] for node in calls(model.graph, known)}
    before = {node: node.meta.get(SOURCE) for node in found}
    for node, source in found.items():
        node.meta[SOURCE] = [(node.name, source)]
    try:
        yield
    finally:
        for node, stack in before.items():
            del node.meta[SOURCE]
            if stack is not None:
                node.meta[SOURCE] = stack
