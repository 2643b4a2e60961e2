"""Decompose attention into matrix products and a plain softmax.

torch decomposes ``scaled_dot_product_attention`` to a softmax with a guard against rows without
keys. Delegates for matrix products do not support the operators of the guard (``eq``, ``any``,
``where``, ``full_like``, ``mul.Scalar``, ``expand``), and portable kernels for them are slower than
all matrix products of a small transformer. Only a mask can leave a row without keys: without a
mask, or with a constant mask that hides nothing, a plain softmax returns the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qreg.graph.insertion import call_before
from qreg.graph.nodes import calls

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

ATTENTION = ("aten.scaled_dot_product_attention.default",)
ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
BEYOND = ("dropout_p", "is_causal", "enable_gqa")
RANK = 4  # batch, heads, positions, depth


def spell_out_attention(program: ExportedProgram) -> None:
    """Replace each attention that hides no key; the program is rewritten in place."""
    known = _lifted(program)
    for node in calls(program.graph, ATTENTION):
        given: dict[str, Any] = dict(zip(ARGUMENTS, node.args, strict=False)) | node.kwargs
        if _is_plain(given) and _hides_nothing(given.get("attn_mask"), known):
            result = _spelled_out(node, given)
            node.replace_all_uses_with(result)
            program.graph_signature.replace_all_uses(node.name, result.name)
    program.graph.eliminate_dead_code()


def _lifted(program: ExportedProgram) -> dict[Node, Tensor | None]:
    """Return the graph inputs that are tensors of the model which the model never writes to.

    Masks that were computed ahead of time are among them.
    """
    from qreg.graph.mutation import Mutations

    signature = program.graph_signature
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    tensors = {**program.state_dict, **program.constants}
    mutations = Mutations.of(program.graph)
    return {
        node: tensors[names[node.name]]
        for node in program.graph.find_nodes(op="placeholder")
        if node.name in names and not mutations.is_written(node)
    }


def _is_plain(given: dict[str, Any]) -> bool:
    shapes = [given[name].meta["val"].shape for name in ("query", "key", "value")]
    static = all(isinstance(size, int) for shape in shapes for size in shape)
    alike = all(len(shape) == RANK and shape[:2] == shapes[0][:2] for shape in shapes)
    return static and alike and not any(given.get(name) for name in BEYOND)


def _hides_nothing(mask: Node | None, known: dict[Node, Tensor | None]) -> bool:
    import torch

    if mask is None:
        return True
    value = _constant(mask, known)
    if value is None:
        return False
    return bool(value.all() if value.dtype is torch.bool else (value == 0).all())


def _constant(node: Node, known: dict[Node, Tensor | None]) -> Tensor | None:
    """Return the value of a node that depends only on constants, such as a mask, or None."""
    if node not in known:
        known[node] = _computed(node, known) if _is_repeatable(node) else None
    return known[node]


def _is_repeatable(node: Node) -> bool:
    import torch

    random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    return node.op == "call_function" and not random


def _computed(node: Node, known: dict[Node, Tensor | None]) -> Tensor | None:
    from torch.fx.node import map_arg

    if any(_constant(source, known) is None for source in node.all_input_nodes):
        return None
    args, kwargs = map_arg((node.args, node.kwargs), known.__getitem__)
    value: Tensor | None = node.target(*args, **kwargs)  # type: ignore[operator]
    return value


def _spelled_out(node: Node, given: dict[str, Any]) -> Node:
    import torch

    aten = torch.ops.aten
    query, key, value = (given[name] for name in ARGUMENTS[:3])
    scale = given.get("scale")
    scale = query.meta["val"].shape[3] ** -0.5 if scale is None else scale
    call = partial(call_before, node, inherit=True)
    scaled = call(aten.mul.Tensor, _merged(call, query), scale)
    turned = call(aten.permute.default, _merged(call, key), [0, 2, 1])
    weights = call(aten.softmax.int, call(aten.bmm.default, scaled, turned), -1)
    mixed = call(aten.bmm.default, weights, _merged(call, value))
    return call(aten.reshape.default, mixed, list(node.meta["val"].shape))


def _merged(call: Callable[..., Node], value: Node) -> Node:
    """Merge batch and heads to one dimension: kernels multiply 3d tensors."""
    import torch

    batch, heads, *rest = value.meta["val"].shape
    return call(torch.ops.aten.reshape.default, value, [batch * heads, *rest])
