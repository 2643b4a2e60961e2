"""Annotators: a pattern, the rules for a match, and the annotations of a match.

This module does not import torch, so operators are written as torch prints them:
``"aten.linear.default"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import Factory, field, frozen, validators

from qreg.plugins.types.backend import ALL_MODES, STATIC, WEIGHT, Mode
from qreg.plugins.types.fields import is_callable, non_empty, strings

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig
    from torchao.quantization.pt2e.quantizer.quantizer import QuantizationSpecBase


Matcher: TypeAlias = "Callable[[Node], Match | None]"
Rule: TypeAlias = "Callable[[Match, QuantizationConfig], str | None]"
Annotate: TypeAlias = "Callable[[Match, QuantizationConfig], Sequence[Annotation] | Refusal]"


def _rules(values: Iterable[Rule]) -> tuple[Rule, ...]:
    return tuple(values)


def _nodes(values: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(values)


def _modes(values: Iterable[Mode]) -> frozenset[Mode]:
    found = frozenset(strings(values))
    known = ALL_MODES | WEIGHT
    if not found or found - known:
        wrong = ", ".join(map(repr, sorted(found - known))) or "none"
        raise ValueError(f"modes: {wrong} given (expected some of {', '.join(sorted(known))})")
    return frozenset(each for each in known if each in found)


@frozen
class Match:
    """A match of a pattern in the annotated graph.

    ``nodes`` are the operators of the pattern in execution order: the first decides which config
    applies, the last computes the output. ``inputs`` are the input activations. ``weight`` and
    ``bias`` are the constants. All of them are nodes of the annotated graph.
    """

    nodes: tuple[Node, ...] = field(converter=_nodes, validator=validators.min_len(1))
    inputs: tuple[Node, ...] = field(converter=_nodes)
    weight: Node | None = None
    bias: Node | None = None

    @property
    def anchor(self) -> Node:
        return self.nodes[0]

    @property
    def output(self) -> Node:
        return self.nodes[-1]


@frozen
class Refusal:
    """The reason why a match stays in float, written for users of the model."""

    reason: str


@frozen
class Annotation:
    """The quantization specs of one node: for its input edges and its output."""

    node: Node
    inputs: Mapping[Node, QuantizationSpecBase] = Factory(dict)
    output: QuantizationSpecBase | None = None


@frozen
class Annotator:
    """One operator pattern, and how to quantize it.

    ``targets`` are the operators for which ``match`` is called, in functional form: an in-place
    ``aten.relu_.default`` is looked up as ``aten.relu.default``. ``match`` returns the match of the
    pattern, or None. Each of ``rules`` may reject the match with a reason. ``annotate`` returns the
    annotations; if it is None, inputs, weight, bias and output get the specs of the config. None of
    the three may change the graph: the host writes the annotations. ``before`` and ``after`` name
    annotators that are called later or earlier than this one. ``replaces`` names annotators of
    other plugins that this one replaces.
    """

    name: str = field(validator=non_empty)
    targets: tuple[str, ...] = field(converter=strings, validator=validators.min_len(1))
    match: Matcher = field(validator=is_callable)
    modes: frozenset[Mode] = field(default=STATIC, converter=_modes)
    rules: tuple[Rule, ...] = field(
        default=(), converter=_rules, validator=validators.deep_iterable(is_callable)
    )
    annotate: Annotate | None = field(default=None, validator=validators.optional(is_callable))
    before: tuple[str, ...] = field(default=(), converter=strings)
    after: tuple[str, ...] = field(default=(), converter=strings)
    replaces: tuple[str, ...] = field(default=(), converter=strings)
    summary: str = ""
