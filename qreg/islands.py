"""Where quantizing pays: between products, not where a value would be converted for itself alone.

Convolutions, linear layers and matmuls gain enough to pay for a conversion. Everything else is
worth quantizing where it stands between two of these. What will be decided further down the graph
is not known yet; what an operator is, is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from qreg.annotation import output_spec, standard, with_channel_axis
from qreg.joined import JoinedDimension
from qreg.model import Annotation, Match, Refusal
from qreg.patterns import is_constant, operator_name

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


@frozen
class Islands:
    """What a backend has kernels for, as far as it matters for what pays.

    ``products`` are its operators that pay for a conversion, by their names; ``constant_factor``
    says that only those with a constant do. ``passing`` are those that it runs on quantized values
    between two products. The methods are for annotators: a rule, and what they annotate with.
    """

    products: frozenset[str]
    passing: frozenset[str]
    constant_factor: bool = False

    def read_by_products(self, node: Node) -> bool:
        """Whether a value enters a product, directly or through what passes it on.

        What is cut out of one input of a ``cat`` does not count as a reader of the ``cat``.
        """
        joined = JoinedDimension.of(node)
        waiting = [(user, joined) for user in node.users]
        seen = set(node.users)
        while waiting:
            user, joined = waiting.pop()
            name = operator_name(user.target) if user.op == "call_function" else ""
            if name in self.products and self._pays(user):
                return True
            if name in self.passing and not (joined and joined.is_taken_apart_by(user)):
                fresh = set(user.users) - seen
                seen |= fresh
                behind = joined and joined.behind(user)
                waiting += [(each, behind) for each in fresh]
        return False

    def _pays(self, product: Node) -> bool:
        return not self.constant_factor or any(map(is_constant, product.all_input_nodes))

    def feeds_products(self, match: Match, config: QuantizationConfig) -> str | None:
        """What reads it, sooner or later, is a product."""
        if self.read_by_products(match.output):
            return None
        return "no convolution, linear or matmul reads it: quantized, it would only be converted"

    def product(self, match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        """Inputs, weight and, where that is read in integers, the output.

        A product that is read in float gives float from its integer sum, which costs less and
        loses nothing.
        """
        if not self.read_by_products(match.output):
            config = dataclasses.replace(config, output_activation=None)
        return standard(match, config)

    def product_along_axis_1(
        self, match: Match, config: QuantizationConfig
    ) -> Sequence[Annotation] | Refusal:
        """As ``product``, for a weight with its output channels along axis 1."""
        return self.product(match, with_channel_axis(config, 1))

    def continued(self, match: Match, config: QuantizationConfig) -> Sequence[Annotation] | Refusal:
        """Inputs and output, where one of the inputs is quantized already."""
        if any(output_spec(node) is not None for node in match.inputs):
            return self.product(match, config)
        return Refusal("nothing that enters it is quantized: it would only be converted")
