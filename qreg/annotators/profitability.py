"""Decide where quantization pays off: between compute operators.

Convolutions, linear layers and matmuls gain enough to pay for a conversion. Other operators are
worth quantizing only between two of these. Annotators run in the order of the graph, so decisions
about operators downstream are not known yet, but their kinds are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from qreg.annotators.annotate import output_spec, standard, with_channel_axis
from qreg.graph.joined import JoinedDimension
from qreg.graph.nodes import called, constants_of, unchanged
from qreg.plugins.types.annotator import Annotation, Match, Refusal

if TYPE_CHECKING:
    from torch.fx import Graph, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


@contextmanager
def one_pass(graph: Graph, kept: Collection[Node]) -> Iterator[None]:
    """Cache the facts about a graph, which must not change meanwhile.

    ``kept`` are the operators that scopes keep in float.
    """
    token = _current.set(_Facts(graph, frozenset(kept)))
    try:
        with unchanged(graph):
            yield
    finally:
        _current.reset(token)


@frozen
class Islands:
    """The kernels of a backend that matter for profitability.

    ``products`` are the names of the compute operators that pay for a conversion. With
    ``constant_factor``, only those with a constant operand do. ``passing`` are the operators that
    the backend runs on quantized values between two compute operators. The methods are a rule and
    annotate functions for annotators.
    """

    products: frozenset[str]
    passing: frozenset[str]
    constant_factor: bool = False

    def read_by_products(self, node: Node) -> bool:
        """Whether a compute operator reads a value, directly or through passing operators.

        A slice out of one input of a ``cat`` does not count as a reader of the ``cat``. Operators
        that a scope keeps in float do not count either.
        """
        facts = _facts(node.graph)
        reached = facts.reached(self)
        joined = JoinedDimension.of(node)
        if joined is None:
            return node in reached
        waiting = [(user, joined) for user in node.users]
        while waiting:
            user, joined = waiting.pop()
            if self._computes(user, facts):
                return True
            if self._passes(user, facts) and not joined.is_taken_apart_by(user):
                left = joined.through(user)
                if left is not None:
                    waiting += [(each, left) for each in user.users]
                elif user in reached:
                    return True
        return False

    def _computes(self, node: Node, facts: _Facts) -> bool:
        if node in facts.kept or called(node) not in self.products:
            return False
        return not self.constant_factor or not facts.constants.isdisjoint(node.all_input_nodes)

    def _passes(self, node: Node, facts: _Facts) -> bool:
        return node not in facts.kept and called(node) in self.passing

    def feeds_products(self, match: Match, config: QuantizationConfig) -> str | None:
        """Require a compute operator downstream of the match."""
        if self.read_by_products(match.output):
            return None
        return "no convolution, linear or matmul reads it: int8 would only add conversions"

    def product(self, match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        """Annotate inputs, weight and, if it is read as quantized values, the output.

        A compute operator that is read in float returns float from its integer sum, which costs
        less and is lossless.
        """
        if not self.read_by_products(match.output):
            config = dataclasses.replace(config, output_activation=None)
        return standard(match, config)

    def product_along_axis_1(
        self, match: Match, config: QuantizationConfig
    ) -> Sequence[Annotation] | Refusal:
        """Annotate as ``product``, for a weight with its output channels along axis 1."""
        return self.product(match, with_channel_axis(config, 1))

    def continued(self, match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        """Annotate inputs and output if one of the inputs is already quantized."""
        if any(output_spec(node) is not None for node in match.inputs):
            return self.product(match, config)
        return Refusal("none of its inputs is quantized: int8 would only add conversions")


@define(eq=False, slots=False)
class _Facts:
    """Cached facts about a graph; one walk finds all nodes that compute operators read."""

    graph: Graph
    kept: frozenset[Node] = frozenset()
    _reached: dict[Islands, set[Node]] = field(init=False, factory=dict)

    @cached_property
    def constants(self) -> set[Node]:
        return constants_of(self.graph)

    def reached(self, islands: Islands) -> set[Node]:
        """Return the nodes that compute operators read, directly or through passing operators."""
        if islands not in self._reached:
            found = self._reached[islands] = set()
            for node in reversed(self.graph.nodes):
                passed = node in found and islands._passes(node, self)
                if passed or islands._computes(node, self):
                    found.update(node.all_input_nodes)
        return self._reached[islands]


_current: ContextVar[_Facts | None] = ContextVar("facts of the pass", default=None)


def _facts(graph: Graph) -> _Facts:
    current = _current.get()
    return current if current is not None and current.graph is graph else _Facts(graph)
