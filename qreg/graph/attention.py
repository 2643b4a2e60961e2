"""Decompose attention into matrix products and a plain softmax.

torch decomposes ``scaled_dot_product_attention`` to a softmax with a guard against rows without
keys. Delegates for matrix products do not support the operators of the guard (``eq``, ``any``,
``where``, ``full_like``, ``mul.Scalar``, ``expand``), and portable kernels for them are slower than
all matrix products of a small transformer. Without a mask, or with a constant mask that hides
nothing, a plain softmax returns the same values; any other mask is added to the scores as numbers.

Heads that share a key are computed as more queries of that key, so that keys are not copied.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import evolve

from qreg.graph import masks
from qreg.graph.attention_arguments import Attention
from qreg.graph.insertion import call_before
from qreg.graph.known_values import known_value, lifted
from qreg.graph.masks import Mask
from qreg.graph.nodes import calls, shape_of
from qreg.graph.operators import ATTENTION

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    Written: TypeAlias = dict[tuple[Node, int], Mask]  # by the mask, and the repeats of its queries


def spell_out_attention(program: ExportedProgram) -> None:
    """Replace each attention of rank 4; the program is rewritten in place.

    Attention with dropout stays, and attention with a mask of other sizes or types.
    """
    known = lifted(program)
    written: Written = {}
    for node in calls(program.graph, ATTENTION):
        given = Attention.of(node)
        if given.mask is not None and _hides_nothing(given.mask, known):
            given = evolve(given, mask=None)
        if given.is_supported:
            result = _spelled_out(node, given.with_shared_heads(), written)
            node.replace_all_uses_with(result)
            program.graph_signature.replace_all_uses(node.name, result.name)
    program.graph.eliminate_dead_code()


def _hides_nothing(mask: Node, known: dict[Node, Tensor | None]) -> bool:
    import torch

    value = known_value(mask, known)
    if value is None:
        return False
    return bool(value.all() if value.dtype is torch.bool else (value == 0).all())


def _spelled_out(node: Node, given: Attention, written: Written) -> Node:
    import torch

    aten, call = torch.ops.aten, partial(call_before, node, inherit=True)
    planes = shape_of(given.key)[0] * shape_of(given.key)[1]

    def merged(value: Node) -> Node:
        """Merge batch and heads to one dimension: kernels multiply 3d tensors."""
        return call(aten.reshape.default, value, [planes, -1, shape_of(value)[3]])

    scaled = merged(call(aten.mul.Tensor, given.query, given.scale))
    turned = call(aten.permute.default, merged(given.key), [0, 2, 1])
    scores = call(aten.bmm.default, scaled, turned)
    weights = _weights(node, given, scores, _mask(node, given, written))
    mixed = call(aten.bmm.default, weights, merged(given.value))
    sizes = [*shape_of(given.query)[:3], shape_of(given.value)[3]]
    return call(aten.reshape.default, mixed, _known(sizes))


def _weights(node: Node, given: Attention, scores: Node, mask: Mask | None) -> Node:
    """Return the softmax of scores of shape (batch and heads, queries, keys)."""
    import torch

    aten, call = torch.ops.aten, partial(call_before, node, inherit=True)
    if mask is None:
        return call(aten.softmax.int, scores, -1)
    apart = mask.bias.meta["val"].dim() == masks.RANK
    merged = shape_of(scores)
    if apart:
        sizes = [*shape_of(given.query)[:3], merged[2]]
        scores = call(aten.reshape.default, scores, _known(sizes))
    weights = call(aten.softmax.int, call(aten.add.Tensor, scores, mask.bias), -1)
    if mask.visible is not None:
        weights = call(aten.mul.Tensor, weights, mask.visible)
    return call(aten.reshape.default, weights, _known(merged)) if apart else weights


def _known(sizes: list[Any]) -> list[Any]:
    """Return a shape for ``reshape``, which finds the one size that depends on the data."""
    return [size if isinstance(size, int) else -1 for size in sizes]


def _mask(node: Node, given: Attention, written: Written) -> Mask | None:
    """Return the numbers of the mask; layers share those of a mask that is an argument."""
    if given.is_causal:
        return masks.causal(node, given.query, given.key, given.times)
    if given.mask is None:
        return None
    key = given.mask, given.times
    if key not in written:
        written[key] = masks.of_values(node, *key)
    return written[key]
