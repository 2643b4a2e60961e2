"""Matchers for annotators: operators by name, and combinations of small matchers.

A matcher is a function from a node to a :class:`~qreg.Match`, or to None if its pattern does not
start at the node. A matcher never changes the graph. The cost of a match is proportional to the
size of the pattern, and independent of the size of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from qreg.graph.nodes import (
    argument,
    is_constant,
    is_in_place,
    is_node,
    operator_name,
    sole_user,
    tensor_at,
)
from qreg.plugins.types.annotator import Match, Matcher

if TYPE_CHECKING:
    from torch.fx import Node

__all__ = [
    "argument",
    "fused",
    "is_constant",
    "is_in_place",
    "is_node",
    "leading",
    "listed",
    "operands",
    "operator_name",
    "sole_user",
    "tensor_at",
    "traced",
    "weighted",
]


def operands(*positions: int) -> Matcher:
    """Match one operator whose arguments at ``positions`` are all tensors of the graph."""

    def match(node: Node) -> Match | None:
        inputs = [argument(node, position) for position in positions]
        return Match((node,), _distinct(inputs)) if all(map(is_node, inputs)) else None

    return match


def listed(position: int = 0) -> Matcher:
    """Match one operator whose argument at ``position`` is a list of tensors, such as ``cat``."""

    def match(node: Node) -> Match | None:
        inputs = argument(node, position)
        return Match((node,), _distinct(inputs)) if inputs and all(map(is_node, inputs)) else None

    return match


def weighted(activation: int = 0, weight: int = 1, bias: int = 2) -> Matcher:
    """Match one operator with an activation, a weight and an optional bias at these positions."""

    def match(node: Node) -> Match | None:
        entering, factor = argument(node, activation), argument(node, weight)
        if not (is_node(entering) and is_node(factor)):
            return None
        return Match((node,), (entering,), factor, argument(node, bias))

    return match


def leading(matcher: Matcher, operators: Iterable[str]) -> Matcher:
    """Match one unary operator, followed by what ``matcher`` finds at one of ``operators``.

    The input of the match is the input of the first operator.
    """
    names = frozenset(operators)

    def match(node: Node) -> Match | None:
        first, user = operands(0)(node), sole_user(node)
        if first is None or user is None or operator_name(user.target) not in names:
            return None
        found = matcher(user)
        if found is None or found.inputs != (node,):
            return None
        return Match((node, *found.nodes), first.inputs, found.weight, found.bias)

    return match


def fused(head: Matcher, *followers: Iterable[str]) -> Matcher:
    """Match ``head``, followed by one operator out of each of ``followers``.

    Intermediate values may not have other users, since a backend that fuses the operators does
    not compute these values.
    """
    chain = [frozenset(names) for names in followers]

    def match(node: Node) -> Match | None:
        found = head(node)
        for names in chain:
            if found is None:
                return None
            found = _extended(found, names)
        return found

    return match


def traced(
    function: Callable[..., Any],
    example_inputs: Sequence[Any],
    operators: Iterable[str],
    *,
    weight: str | None = None,
    bias: str | None = None,
    literals: bool = False,
) -> Matcher:
    """Match what a plain function computes, such as ``lambda x, w, b: F.relu(F.linear(x, w, b))``.

    ``operators`` are all operators of the pattern. The last one returns the output of the pattern
    and is the target of an annotator. The function is traced on ``example_inputs`` once per
    process, and only for a graph that has all of the operators. ``weight`` and ``bias`` name the
    parameters that are constants of the model. With ``bias``, the pattern also matches without a
    bias. ``literals`` requires numbers in the calls to be equal.

    Raises ``ConfigError`` during tracing if an operator of the pattern is not in ``operators``.
    """
    names = tuple(operators)
    pattern = None

    def match(node: Node) -> Match | None:
        nonlocal pattern
        if pattern is None:
            from qreg.annotators.traced import TracedPattern

            inputs = tuple(example_inputs)
            pattern = TracedPattern(function, inputs, names, weight, bias, literals)
        return pattern(node)

    return match


def _extended(found: Match, names: frozenset[str]) -> Match | None:
    user = sole_user(found.output)
    if user is None or user.op != "call_function" or operator_name(user.target) not in names:
        return None
    return Match((*found.nodes, user), found.inputs, found.weight, found.bias)


def _distinct(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(nodes))
