"""Eliminate the batch norms from a graph that is quantized after training.

A norm downstream of a convolution or linear layer without other users is folded into the layer's
weight and bias, separately for each call of the layer, also if views are between the two. Any
other norm becomes a multiplication and an addition. torchao 0.18 folds norms too, ahead of the
quantizer. torchao checks neither for other users of the convolution's output nor for other calls
that share its weight. So no norm may be left for torchao to fold.

This module rewrites the graph only: new weights are operators on the old ones, which
:func:`~qreg.folding.parameters.fold_constants` evaluates.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor

from qreg.folding.building import COMPUTES, Builder, bring_ahead
from qreg.folding.constants import constant_nodes
from qreg.folding.upstream import Upstream
from qreg.graph.nodes import argument, calls, sole_user
from qreg.graph.operators import ADDMM, LINEAR, TRANSPOSED
from qreg.graph.provenance import remember_folded
from qreg.plugins.operator_names import operator_name

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node


aten = torch.ops.aten

NORMS = ("aten.batch_norm.default", "aten.instance_norm.default")
NORM_WITHOUT_TRAINING = "aten._native_batch_norm_legit_no_training.default"


@frozen
class Norm:
    """One call of a batch norm: ``(x - mean) / sqrt(variance + eps) * weight + bias``.

    ``output`` is the node from which consumers read the result.
    """

    node: Node
    output: Node
    entering: Node
    weight: Node | None
    bias: Node | None
    mean: Node
    variance: Node
    eps: float

    @property
    def parameters(self) -> list[Node]:
        given = (self.weight, self.bias, self.mean, self.variance)
        return [each for each in given if each is not None]


def fold_batch_norms(model: GraphModule) -> None:
    """Fold each batch norm that a layer upstream can take, in place."""
    nodes = _norms(model)
    constants = set(constant_nodes(model.graph)) if nodes else set()
    for node in nodes:
        norm = _norm(node)
        if norm is not None and constants.issuperset(norm.parameters):
            _fold_upstream(norm, constants)
    model.recompile()


def rewrite_batch_norms(model: GraphModule) -> None:
    """Replace each batch norm whose statistics and parameters are constants, in place.

    A norm that uses the statistics of the batch, or parameters that are not constants or belong to
    the body of a loop, stays one operator. The norm becomes an equivalent operator that torchao
    does not fold: ``aten._native_batch_norm_legit.no_stats`` or ``aten.native_batch_norm``.
    """
    nodes = _norms(model)
    constants = set(constant_nodes(model.graph)) if nodes else set()
    for node in nodes:
        if operator_name(node.target) == "aten.batch_norm.default" and _uses_batch(node):
            _without_statistics(node)
        elif (norm := _norm(node)) is not None:
            _rewrite(norm, constants)
    model.recompile()


def _norms(model: GraphModule) -> list[Node]:
    return calls(model.graph, (*NORMS, NORM_WITHOUT_TRAINING))


def _uses_batch(node: Node) -> bool:
    return bool(node.args[5]) or argument(node, 3) is None


def _norm(node: Node) -> Norm | None:
    name, given = operator_name(node.target), node.args
    if name in NORMS and not _uses_batch(node):
        return _normed(node, node, given[7])
    if name != NORM_WITHOUT_TRAINING:
        return None
    user = sole_user(node)
    if user is None or user.target is not operator.getitem or user.args[1] != 0:
        return None
    return _normed(node, user, given[6])


def _normed(node: Node, output: Node, eps: Any) -> Norm:
    entering, weight, bias, mean, variance = node.args[:5]
    return Norm(node, output, entering, weight, bias, mean, variance, eps)  # type: ignore[arg-type]


def _without_statistics(node: Node) -> None:
    arguments = (*node.args[:3], True, *node.args[6:8])
    result = _first_of(node, node, aten._native_batch_norm_legit.no_stats, arguments)
    node.replace_all_uses_with(result)
    node.graph.erase_node(node)


def _first_of(node: Node, output: Node, target: Any, arguments: tuple[Any, ...]) -> Node:
    """Insert an operator with several results in place of a norm, and return its first result."""
    with node.graph.inserting_before(node):
        several = node.graph.call_function(target, arguments)
        first = node.graph.call_function(operator.getitem, (several, 0))
    value = output.meta["val"]
    several.meta = {**output.meta, "val": (value, value.new_empty(0), value.new_empty(0))}
    first.meta = {**output.meta, COMPUTES: output.name}
    return first


def _rewrite(norm: Norm, constants: set[Node]) -> None:
    if not constants.issuperset(norm.parameters):
        given = (norm.entering, norm.weight, norm.bias, norm.mean, norm.variance)
        arguments = (*given, False, 0.0, norm.eps)
        kept = _first_of(norm.node, norm.output, aten.native_batch_norm.default, arguments)
        _replace(norm, kept)
    elif not _fold_upstream(norm, constants):
        _replace(norm, _arithmetic(Builder(norm.node, constants), norm))


def _fold_upstream(norm: Norm, constants: set[Node]) -> bool:
    """Fold a norm into the layer that it reads; False if no layer can take the norm."""
    upstream = Upstream.of(norm.node, norm.entering)
    if upstream is None or not _can_take(upstream, constants):
        return False
    built = Builder(upstream.layer, constants)
    bring_ahead(norm.parameters)
    _fold(built, upstream.layer, *_affine(built, norm))
    for node in (upstream.layer, *upstream.views):
        node.meta[COMPUTES] = ""
    norm.entering.meta[COMPUTES] = norm.output.name
    remember_folded(upstream.layer, [norm.node])
    _replace(norm, norm.entering)
    return True


def _replace(norm: Norm, other: Node) -> None:
    norm.output.replace_all_uses_with(other)
    for node in dict.fromkeys((norm.output, norm.node)):
        node.graph.erase_node(node)


def _can_take(upstream: Upstream, constants: set[Node]) -> bool:
    """Whether a norm can be folded into the layer upstream.

    The layer's weight and bias must be constants. The norm applies to the second axis of its input,
    which must have the channels of the layer.
    """
    layer = upstream.layer
    name = operator_name(layer.target)
    weight, bias = _weight_and_bias(layer)
    if not constants.issuperset(each for each in (weight, bias) if each is not None):
        return False
    if name in LINEAR or name in ADDMM:
        scaled = any(value != 1 for value in layer.kwargs.values())
        if weight.meta["val"].dim() != 2 or scaled:
            return False
    return upstream.axis == 1


def _weight_and_bias(layer: Node) -> tuple[Node, Node | None]:
    positions = (2, 0) if operator_name(layer.target) in ADDMM else (1, 2)
    weight, bias = (argument(layer, position) for position in positions)
    return weight, bias


def _affine(built: Builder, norm: Norm) -> tuple[Node, Node]:
    """Return a norm's factor and summand, one of each per channel: shapes (C,)."""
    scale = built(aten.rsqrt.default, built(aten.add.Tensor, norm.variance, norm.eps))
    if norm.weight is not None:
        scale = built(aten.mul.Tensor, scale, norm.weight)
    shift = built(aten.neg.default, built(aten.mul.Tensor, norm.mean, scale))
    if norm.bias is not None:
        shift = built(aten.add.Tensor, shift, norm.bias)
    return scale, shift


def _arithmetic(built: Builder, norm: Norm) -> Node:
    value: Tensor = norm.entering.meta["val"]
    shape = [1, -1, *[1] * (value.dim() - 2)]
    factor, summand = (
        _typed(built, built(aten.reshape.default, each, shape), value)
        for each in _affine(built, norm)
    )
    product = built(aten.mul.Tensor, norm.entering, factor)
    result: Node = built(aten.add.Tensor, product, summand)
    result.meta[COMPUTES] = norm.output.name
    return result


def _typed(built: Builder, node: Node, like: Tensor) -> Node:
    if node.meta["val"].dtype == like.dtype:
        return node
    converted: Node = built(aten.to.dtype, node, like.dtype)
    return converted


def _fold(built: Builder, layer: Node, scale: Node, shift: Node) -> None:
    """Change the weight and bias of a layer so that it computes ``layer(x) * scale + shift``."""
    weight, bias = _weight_and_bias(layer)
    bring_ahead([each for each in (weight, bias) if each is not None])
    scaled = _typed(built, _scaled(built, layer, weight, scale), weight.meta["val"])
    if bias is not None:
        shift = built(aten.add.Tensor, built(aten.mul.Tensor, bias, scale), shift)
    shift = _typed(built, shift, weight.meta["val"])
    if operator_name(layer.target) in ADDMM:
        layer.args = (shift, layer.args[1], scaled)
    else:
        layer.args = (layer.args[0], scaled, shift, *layer.args[3:])


def _scaled(built: Builder, layer: Node, weight: Node, scale: Node) -> Node:
    """Return a weight with each of its output channels scaled.

    Output channels are on the first axis, but on the last axis for ``addmm``, and on the second
    for a transposed convolution, whose first axis has the input channels of each group.
    """
    shape, name = list(weight.meta["val"].shape), operator_name(layer.target)
    if name in ADDMM:
        result = built(aten.mul.Tensor, weight, scale)
    elif name in TRANSPOSED:
        groups = argument(layer, 6) or 1
        apart = [groups, shape[0] // groups, *shape[1:]]
        factor = built(aten.reshape.default, scale, [groups, 1, shape[1], *[1] * len(shape[2:])])
        parts = built(aten.mul.Tensor, built(aten.reshape.default, weight, apart), factor)
        result = built(aten.reshape.default, parts, shape)
    else:
        factor = built(aten.reshape.default, scale, [-1, *[1] * len(shape[1:])])
        result = built(aten.mul.Tensor, weight, factor)
    node: Node = result
    return node
