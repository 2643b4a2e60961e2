"""The only module that uses private names of torch and torchao.

Each name has the version that it was verified with. ``tests/graph/test_compat.py`` fails if a name
moves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.ao.quantization.fx.utils import assert_and_get_unique_device
from torch.fx import GraphModule
from torch.fx.experimental.symbolic_shapes import guarding_hint_or_throw, has_guarding_hint
from torch.fx.graph import _PyTreeInfo  # torch 2.13.0

# torchao 0.18.0; of these observers only the base is exported.
from torchao.quantization.pt2e import constant_fold, qat_utils
from torchao.quantization.pt2e._affine_quantization import (
    AffineQuantizedMinMaxObserver,
    AffineQuantizedMovingAverageMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

# torchao 0.18.0; the key is not exported from torchao.quantization.pt2e.quantizer.
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY
from torchao.utils import _assert_and_get_unique_device

from qreg.graph.by_rows import evaluated
from qreg.graph.mutation import Mutations
from qreg.graph.nodes import is_random

if TYPE_CHECKING:
    from torch.fx import Node

    from qreg.plugins.types.annotator import Annotation


DELETE = "delete_all_unused_submodules"  # torch 2.13.0
DEDUCE = "_deduce_value"  # torchao 0.18.0: a method of ConstantFolder, as the next one
WRITTEN = "_find_mutable_buffers"
# torchao 0.18.0, of qat_utils: the searches for each kind of convolution, and what they call
FUSE, FOLD = "_fuse_conv_bn_qat_helper", "_fold_conv_bn_qat_helper"
PATTERNS = ("_get_quantized_qat_conv_bn_pattern", "_get_folded_quantized_qat_conv_bn_pattern")
EXPORT, REPLACE = "_get_aten_graph_module_for_pattern", "replace_pattern_with_filters"
# Affine observers that observe a range; other affine observers are placeholders.
AFFINE_RANGED = (AffineQuantizedMinMaxObserver, AffineQuantizedMovingAverageMinMaxObserver)


# torch 2.13.0: the function of torch.nn.modules.transformer that reads the values of a mask.
CAUSAL_CHECK = "_detect_is_causal_mask"


def made_by(factory: Any) -> tuple[Any, dict[str, Any]]:
    """Return the class that an observer factory instantiates, and the arguments it passes."""
    # torchao 0.18.0: what with_args returns keeps a functools.partial in `p`.
    inner = getattr(factory, "p", None)
    return (inner.func, dict(inner.keywords)) if isinstance(inner, partial) else (factory, {})


def annotation_of(node: Node) -> QuantizationAnnotation | None:
    """Return the node's annotation, or None if the node is not marked as annotated."""
    found = node.meta.get(Q_ANNOTATION_KEY)
    # torchao 0.18.0: quantizers check `_annotated` for nodes that others have annotated.
    return found if found is not None and found._annotated else None


def annotate_node(node: Node, annotation: Annotation | None) -> QuantizationAnnotation:
    """Write an annotation to its node; None marks the node as annotated, without specs."""
    written = QuantizationAnnotation(
        input_qspec_map=dict(annotation.inputs) if annotation else {},
        output_qspec=annotation.output if annotation else None,
        _annotated=True,
    )
    restore_annotation(node, written)
    return written


def restore_annotation(node: Node, annotation: QuantizationAnnotation | None) -> None:
    """Set a node's torchao annotation; None removes the present annotation."""
    node.meta.pop(Q_ANNOTATION_KEY, None)
    if annotation is not None:
        node.meta[Q_ANNOTATION_KEY] = annotation


def move_annotation(node: Node, places: Mapping[Node, Node]) -> None:
    """Make the annotation of a node refer to other nodes in the place of its inputs.

    ``places`` has the nodes that replace others, such as the copies of a graph. ``convert_pt2e``
    looks up where the inputs are rounded.
    """
    found = node.meta.get(Q_ANNOTATION_KEY)
    if found is not None:
        specs = {places.get(each, each): spec for each, spec in found.input_qspec_map.items()}
        node.meta[Q_ANNOTATION_KEY] = replace(found, input_qspec_map=specs)


def signature_of(model: object) -> _PyTreeInfo | None:
    """Return the names of a module's arguments and the structure of its inputs and outputs.

    None for a module that was not made by torch.export.
    """
    codegen = getattr(getattr(model, "graph", None), "_codegen", None)  # torch 2.13.0
    return getattr(codegen, "pytree_info", None)


def size_hint(size: int | torch.SymInt) -> int | None:
    """Return the size of a dimension in the example inputs that a model was exported with.

    None for sizes that depend on data, such as the number of elements that are not zero.
    """
    # torch 2.13.0: symbolic_shapes is experimental, and its functions for hints change their names.
    return int(guarding_hint_or_throw(size)) if has_guarding_hint(size) else None


def largest_size(size: int | torch.SymInt) -> int:
    """Return the largest size of a dimension; ``sys.maxsize`` for one without a limit."""
    return least_and_largest_size(size)[1]


def least_and_largest_size(size: int | torch.SymInt) -> tuple[int, int]:
    """Return the limits of a dimension; the largest size is ``sys.maxsize`` without a limit."""
    if isinstance(size, int):
        return size, size
    # torch 2.13.0: the ranges of a graph without its program are in the environment of its sizes.
    found = size.node.shape_env.bound_sympy(size.node.expr)
    return int(found.lower), int(found.upper) if found.upper < sys.maxsize else sys.maxsize


@contextmanager
def keeping_nested_bodies() -> Iterator[None]:
    """Make ``convert_pt2e`` keep the branches and bodies that other branches and bodies call.

    torchao 0.18.0 calls ``delete_all_unused_submodules`` of torch 2.13.0, which reads the calls of
    the outer graph only.
    """
    delete = GraphModule.delete_all_unused_submodules
    setattr(GraphModule, DELETE, _except_nested_bodies(delete))
    try:
        yield
    finally:
        setattr(GraphModule, DELETE, delete)


def _except_nested_bodies(delete: Callable[[GraphModule], None]) -> Callable[[GraphModule], None]:
    @wraps(delete)
    def deleted(graph_module: GraphModule) -> None:
        nested = {
            f"{name}.{path}": module
            for name, body in graph_module.named_children()
            if isinstance(body, GraphModule)
            for path, module in body.named_modules()
            if path
        }
        delete(graph_module)
        for path, module in nested.items():
            if hasattr(graph_module, path.split(".")[0]):
                graph_module.add_submodule(path, module)

    return deleted


@contextmanager
def replaced_in_qat(name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a function of ``qat_utils`` with what ``change`` makes of it."""
    present = getattr(qat_utils, name)
    setattr(qat_utils, name, change(present))
    try:
        yield
    finally:
        setattr(qat_utils, name, present)


def forget_models() -> None:
    """Empty the caches of the devices of models, which hold each model until the process ends."""
    _assert_and_get_unique_device.cache_clear()  # torchao 0.18.0
    assert_and_get_unique_device.cache_clear()  # torch 2.13.0


@contextmanager
def folding_constants() -> Iterator[None]:
    """Make ``convert_pt2e`` fold what is constant, in parts, and not dequantize it.

    torchao 0.18.0 evaluates all operators without inputs, and folds those that quantize. It takes
    random values for constants, and buffers that ``add_`` writes to: only ``copy_`` and ``put_``
    are known to it. It also evaluates those that dequantize, and then leaves them in the graph.
    """
    folder = constant_fold.ConstantFolder
    before = {name: getattr(folder, name) for name in (DEDUCE, WRITTEN)}
    setattr(folder, DEDUCE, _deducing(before[DEDUCE]))
    setattr(folder, WRITTEN, _state_of)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(folder, name, method)


def _state_of(folder: Any) -> set[Node]:
    graph = folder.module.graph
    found = Mutations.of(graph)
    return {node for node in graph.nodes if found.is_state(node)}


def _deducing(deduce: Callable[[Any, Node], Any]) -> Callable[[Any, Node], Any]:
    @wraps(deduce)
    def deduced(folder: Any, node: Node) -> Any:
        if node in folder.mutable_buffers or is_random(node.target):
            return folder.unknown_value
        if node.op != "call_function":
            return deduce(folder, node)
        if ".dequantize_" in str(node.target) and folder.is_impure(node):
            return folder.unknown_value
        return evaluated(node.target, *folder.fetch_args_kwargs_from_env(node))

    return deduced
