"""Decompose composites and aliases into operators that backends know by name.

Backends decompose a graph when they lower it. Annotators, which match names ahead of lowering,
would miss ``narrow``, which becomes a slice between two quantized operators, or ``concat``, which
becomes a cat. So operators that torch defines in terms of other operators are decomposed, one node
at a time, except for those that tables and backends know by name.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from qreg.graph.clamping import BY_TENSORS, ONE_SIDED, as_clamp, clamp_by_numbers
from qreg.graph.lists import fill_lists
from qreg.graph.mutation import Mutations
from qreg.graph.nodes import is_random
from qreg.plugins.operator_names import operator_name

# Composites of torch that kernels, tables, exporters or formulas support directly, by packet.
KEPT = frozenset(
    f"aten.{name}"
    for name in (
        *("linear", "bilinear", "matmul", "einsum", "scaled_dot_product_attention"),
        *("conv1d", "conv2d", "conv3d"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("gru", "lstm", "rnn_tanh", "rnn_relu"),
        *("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell"),
        *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
        *("adaptive_max_pool1d", "avg_pool1d", "max_pool1d", "max_pool2d", "max_pool3d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"),
        *("upsample_trilinear3d", "grid_sampler", "stft", "istft", "embedding_bag"),
        *("cosine_similarity", "cdist", "pairwise_distance", "one_hot"),
        *("softmax", "log_softmax", "log_sigmoid", "prelu", "relu6", "rrelu", "selu"),
        *("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
        *("to", "contiguous", "reshape", "flatten", "pad", "where", "sym_size", "item"),
    )
)
SPLITS = frozenset(
    f"aten.{name}"
    for name in (
        *("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split"),
        *("unsafe_split_with_sizes", "hsplit", "vsplit", "dsplit"),
    )
)


def spelled_out(model: GraphModule, known: Container[str], *, trained: bool = False) -> GraphModule:
    """Decompose composites and aliases, in place, except for operators in ``known``.

    In a model that is ``trained``, bounds stay tensors, since they may be parameters.
    """
    mutations = Mutations.of(model.graph)
    waiting = [node for node in model.graph.nodes if _is_candidate(node, known)]
    for node in waiting:
        waiting += (each for each in _replaced(node, mutations) if _is_candidate(each, known))
    bounded = not trained and _bound_by_numbers(model, known, mutations)
    if fill_lists(model.graph) or waiting or bounded:
        model.graph.eliminate_dead_code(lambda node: node.is_impure() or node.op == "placeholder")
        model.recompile()
    return model


def _bound_by_numbers(model: GraphModule, known: Container[str], mutations: Mutations) -> bool:
    """Turn maxima and minima with constants into clamps; return whether there were any."""
    found = [
        clamp_by_numbers(node)
        for node in model.graph.nodes
        if node.op == "call_function"
        and (name := operator_name(node.target)) in BY_TENSORS
        and name not in known
        and not any(map(mutations.is_state, node.all_input_nodes))
    ]
    return any(found)


def remaining(model: GraphModule, known: Container[str]) -> list[Node]:
    """Return the composites of a graph, except those that are known or kept."""
    return [n for n in model.graph.nodes if _is_candidate(n, known) and _is_composite(n.target)]


def _is_candidate(node: Node, known: Container[str]) -> bool:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return False
    name = operator_name(node.target)
    packet = name.rpartition(".")[0]
    if name in known or packet in known or packet in KEPT:
        return False
    return (
        packet in SPLITS or name in ONE_SIDED or _is_copy(node.target) or _is_composite(node.target)
    )


def _is_composite(target: Any) -> bool:
    return target.namespace == "aten" and not is_random(target) and target._can_decompose()


def _is_copy(target: Any) -> bool:
    """Whether an operator copies the result of the view of the same name, like ``slice_copy``."""
    return _view_of(target) is not None


def _view_of(target: Any) -> Any:
    name = target._schema.name.removeprefix("aten::")
    if not name.endswith("_copy") or name in ("lift_fresh_copy", "_to_copy"):
        return None
    packet = getattr(torch.ops.aten, name.removesuffix("_copy"), None)
    return getattr(packet, target._overloadname, None)


def _replaced(node: Node, mutations: Mutations) -> Sequence[Node]:
    """Replace a node and return the nodes that replace it, or nothing if the node stays."""
    name = operator_name(node.target)
    if name.rpartition(".")[0] in SPLITS and _is_static(node):
        return _as_slices(node)
    if name in ONE_SIDED:
        as_clamp(node)
        return ()
    if _is_copy(node.target):
        return _as_view(node, mutations)
    return _inlined(node) if _is_composite(node.target) else ()


def _is_static(node: Node) -> bool:
    return all(isinstance(size, int) for value in node.meta["val"] for size in value.shape)


def _as_slices(node: Node) -> Sequence[Node]:
    """Replace a split by slices, one for each part, and return the slices."""
    source, dim, start = node.all_input_nodes[0], _split_dim(node), 0
    parts: list[Node] = []
    starts: list[int] = []
    for value in node.meta["val"]:
        starts.append(start)
        start += value.shape[dim]
    for user in list(node.users):
        if user.target is not operator.getitem:
            return ()
    for user in list(node.users):
        position: Any = user.args[1]
        value = node.meta["val"][position]
        first = starts[position]
        bounds = (source, dim, first, first + value.shape[dim])
        with node.graph.inserting_before(user):
            part = node.graph.call_function(torch.ops.aten.slice.Tensor, bounds)
        _inherit(part, node, value)
        user.replace_all_uses_with(part)
        node.graph.erase_node(user)
        parts.append(part)
    node.graph.erase_node(node)
    return parts


def _split_dim(node: Node) -> int:
    """Return the dimension along which a split divides its input."""
    target: Any = node.target
    named = {argument.name: place for place, argument in enumerate(target._schema.arguments)}
    rank: int = node.meta["val"][0].dim()
    if "dim" in named:
        given = node.args[named["dim"]] if named["dim"] < len(node.args) else None
        found: Any = node.kwargs.get("dim", 0) if given is None else given
        return int(found) % rank
    whole = {"hsplit": 1 if rank > 1 else 0, "vsplit": 0, "dsplit": 2}
    name: str = target._schema.name.removeprefix("aten::")
    return whole[name]


def _as_view(node: Node, mutations: Mutations) -> Sequence[Node]:
    """Replace a copied view by the view, unless the shared memory is written to."""
    if not any(map(mutations.is_written, (node, node.all_input_nodes[0]))):
        node.target = _view_of(node.target)
    return (node,) if not _is_copy(node.target) else ()


def _inlined(node: Node) -> Sequence[Node]:
    """Replace a composite by the operators that torch decomposes it into, and return them."""
    target: Any = node.target
    leaves, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Node)]
    values = [leaves[place].meta["val"] for place in places]

    def call(*given: Any) -> Any:
        filled = list(leaves)
        for place, value in zip(places, given, strict=True):
            filled[place] = value
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return target.decompose(*args, **kwargs)

    with torch.no_grad():
        traced = make_fx(call)(*values)
        if traced.graph.find_nodes(op="call_function", target=target):
            # The composite calls a CPU kernel of torch, which backends do not have.
            traced = make_fx(call, decomposition_table=_core_decomposition(target))(*values)
    if traced.graph.find_nodes(op="call_function", target=target):
        return ()
    inputs = traced.graph.find_nodes(op="placeholder")
    inside: dict[Node, Any] = dict(zip(inputs, (leaves[place] for place in places), strict=True))
    with node.graph.inserting_before(node):
        result: Any = node.graph.graph_copy(traced.graph, inside)
    made = [inside[each] for each in traced.graph.nodes if each.op == "call_function"]
    for each in made:
        _inherit(each, node, each.meta.get("val"))
    _replace(node, result)
    return made


def _core_decomposition(target: Any) -> dict[Any, Any]:
    table = torch.export.default_decompositions()
    return {target: table[target]} if target in table else {}


def _replace(node: Node, result: Any) -> None:
    if isinstance(result, (list, tuple)):
        for user in list(node.users):
            assert user.target is operator.getitem
            user.replace_all_uses_with(result[user.args[1]])  # type: ignore[index]
            node.graph.erase_node(user)
    else:
        node.replace_all_uses_with(result)
    node.graph.erase_node(node)


def _inherit(node: Node, composite: Node, value: Any) -> None:
    """Copy the metadata of a composite, such as its provenance, to a node that replaces it."""
    node.meta = {**composite.meta, "val": value}
