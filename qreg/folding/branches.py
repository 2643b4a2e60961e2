"""Merge the branches of a block into one depthwise convolution.

RepVGG, MobileOne and RepViT train a block as a sum of convolutions of one tensor and the tensor
itself. The sum is a convolution too (Ding et al. 2021, RepVGG, section 3.3). Left as branches,
each would be rounded to int8 alone, and each sum again.

Depthwise convolutions only: with k taps and one scale per channel, rounding the weights costs at
most ``20 * log10(sqrt(k) / (127 * sqrt(12)))`` dB, which is -43 for 3 x 3. In a dense convolution,
the tensor itself would be one large weight among hundreds of small ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import torch

from qreg.folding.building import COMPUTES, Builder, bring_ahead
from qreg.graph.mutation import Mutations
from qreg.graph.nodes import argument, called, calls, is_in_place, is_node, shape_of, sole_user
from qreg.graph.operators import ADD
from qreg.graph.provenance import remember_folded

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

aten = torch.ops.aten

CONVOLUTIONS = ("aten.conv1d.default", "aten.conv2d.default")
STRIDE, PADDING, DILATION = 3, 4, 5  # the positions of a convolution's arguments


def merge_branches(model: GraphModule) -> None:
    """Replace each sum of depthwise convolutions of one tensor by one convolution, in place.

    The tensor itself may be a term of the sum. Convolutions of computed weights stay, and those of
    a tensor that is changed in place, whose values differ between the branches.
    """
    totals = calls(model.graph, ADD)
    mutations = Mutations.of(model.graph) if totals else None
    for total in reversed(totals):  # outer sums ahead of inner ones
        found = _branches(total) if total.users else None
        if found and mutations and not any(map(mutations.is_written, _read(found[0]))):
            _merge(total, *found)
    model.recompile()


def _read(layers: Sequence[Node]) -> set[Node]:
    """Return what convolutions read: their input, weights and biases."""
    return {each for layer in layers for each in layer.all_input_nodes}


def _branches(total: Node) -> tuple[list[Node], bool] | None:
    """Return the convolutions that a sum adds, and whether it adds their input; None for others."""
    terms = list(_terms(total))
    layers = [each for each in terms if called(each) in CONVOLUTIONS]
    if not layers or len(terms) == 1 or len(set(terms)) < len(terms):
        return None
    source: Any = layers[0].args[0]
    others = [each for each in terms if each not in layers]
    strides = {_numbers(each, STRIDE, 1) for each in layers}
    if len(strides) > 1 or not all(_is_branch(each, source) for each in layers):
        return None
    if others and (others != [source] or set(*strides) != {1}):
        return None
    return layers, bool(others)


def _terms(total: Node) -> Iterator[Node]:
    """Yield what a sum adds, through sums that nothing else reads; the sum itself for others."""
    operands = [each for each in total.args if is_node(each)]
    if total.kwargs or is_in_place(total) or len(operands) < len(total.args):
        yield total
        return
    for each in operands:
        inner = called(each) in ADD and sole_user(each) is total
        yield from _terms(each) if inner else [each]


def _is_branch(layer: Node, source: Any) -> bool:
    """Whether a layer is a depthwise convolution of a tensor, centred, with constant weights."""
    entering = shape_of(source)
    if layer.args[0] is not source or len(layer.users) != 1:
        return False
    weight, bias = layer.args[1], argument(layer, 2)
    if any(is_node(each) and each.op != "get_attr" for each in (weight, bias)):
        return False
    channels, depth, *sizes = shape_of(weight)  # type: ignore[arg-type]
    if len(entering) != len(sizes) + 2 or (channels, depth) != (entering[1], 1):
        return False
    centred = _numbers(layer, PADDING, 0) == tuple(size // 2 for size in sizes)
    return centred and all(size % 2 for size in sizes) and set(_numbers(layer, DILATION, 1)) == {1}


def _numbers(layer: Node, position: int, default: int) -> tuple[int, ...]:
    """Return the stride, padding or dilation of a convolution, one number per dimension."""
    numbers = argument(layer, position) or default
    given = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    rank = len(shape_of(layer.args[1])) - 2  # type: ignore[arg-type]
    return given * rank if len(given) == 1 else given


def _merge(total: Node, layers: list[Node], with_input: bool) -> None:
    """Let the first convolution compute the sum."""
    first = layers[0]
    weights: list[Node] = [each.args[1] for each in layers]  # type: ignore[misc]
    biases = [each for each in (argument(layer, 2) for layer in layers) if each is not None]
    bring_ahead([*weights, *biases])
    built = Builder(first, {*weights, *biases})
    channels, _, *rest = shape_of(weights[0])
    if with_input:
        weights.append(built(aten.new_ones.default, weights[0], [channels, 1, *[1] * len(rest)]))
    sizes = [max(each) for each in zip(*(shape_of(each)[2:] for each in weights), strict=True)]
    weight = reduce(partial(built, aten.add.Tensor), [_padded(built, w, sizes) for w in weights])
    bias = reduce(partial(built, aten.add.Tensor), biases) if biases else None
    stride, padding = list(_numbers(first, STRIDE, 1)), [size // 2 for size in sizes]
    first.args = (first.args[0], weight, bias, stride, padding, [1] * len(sizes), channels)
    first.meta[COMPUTES] = total.name
    remember_folded(first, layers[1:])
    total.replace_all_uses_with(first)
    _erase(total)


def _padded(built: Builder, weight: Node, sizes: Sequence[int]) -> Node:
    """Return a kernel in the middle of a larger one."""
    missing = [size - own for size, own in zip(sizes, shape_of(weight)[2:], strict=True)]
    amounts = [each // 2 for each in reversed(missing) for _ in range(2)]
    padded: Node = built(aten.constant_pad_nd.default, weight, amounts) if any(missing) else weight
    return padded


def _erase(node: Node) -> None:
    """Erase an operator that nothing reads, and the terms that only it read."""
    if not node.users and called(node) in (*ADD, *CONVOLUTIONS):
        sources = node.all_input_nodes
        node.graph.erase_node(node)
        for each in sources:
            _erase(each)
