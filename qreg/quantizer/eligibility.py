"""Which nodes of a graph may be quantized, and the reasons against a match or an operator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from attrs import frozen
from torch.fx import Graph, Node

from qreg.annotators.rules import UNQUANTIZED_ACTIVATIONS
from qreg.errors import AnnotatorError
from qreg.graph.index import GraphIndex
from qreg.graph.layers import float_reason
from qreg.graph.mutation import Mutations
from qreg.plugins.operator_names import operator_name
from qreg.quantizer.answers import refused_by_rule
from qreg.quantizer.claims import Claim, Claims
from qreg.quantizer.scopes import Choice, Scopes

NodeFilter: TypeAlias = Callable[[Node], bool]

# torchao prepares the bodies of these operators, each as a separate graph.
LOOPS = (torch.ops.higher_order.scan, torch.ops.higher_order.while_loop)
TAKEN = "was annotated before"
# Batch norms that are not folded, under the names that they have after folding.
COMPUTED_NORM = "its statistics or parameters are computed while the model runs"
NORMS = {
    "aten._native_batch_norm_legit.no_stats": (
        "normalizes with the statistics of each batch, not with fixed running statistics"
    ),
    "aten.native_batch_norm.default": COMPUTED_NORM,
    "aten._native_batch_norm_legit_no_training.default": COMPUTED_NORM,
}


@frozen
class Eligibility:
    """Facts about the nodes of a graph, collected ahead of annotation.

    ``taken`` are the nodes with an annotation. ``mutated`` has a reason for each node whose memory
    is written to. ``dtypes`` are the names of the dtypes that the backend quantizes. ``keep`` is
    the user's filter function.
    """

    index: GraphIndex
    mutated: Mapping[Node, str]
    taken: Collection[Node]
    scopes: Scopes
    backend: str
    dtypes: frozenset[str]
    keep: NodeFilter | None

    @classmethod
    def of(
        cls,
        graph: Graph,
        taken: Collection[Node],
        scopes: Scopes,
        backend: str,
        dtypes: Sequence[str],
        keep: NodeFilter | None,
    ) -> Eligibility:
        mutations = Mutations.of(graph)
        index, mutated = GraphIndex(graph, mutations.is_state), mutations.reasons(graph)
        return cls(index, mutated, taken, scopes, backend, frozenset(dtypes), keep)

    def choice(self, node: Node) -> Choice | None:
        """Return the choice that quantizes a node; None if it is kept in float or in no scope."""
        found = self.scopes.choice(node)
        return None if found is None or found.config is None else found

    def refusal(self, claim: Claim, claims: Claims) -> str | None:
        """Return why a claim is rejected, given the other claims; None if it is accepted.

        Raises ``AnnotatorError`` for a rule that fails.
        """
        return next(filter(None, self._refusals(claim, claims)), None)

    def _refusals(self, claim: Claim, claims: Claims) -> Iterator[str | None]:
        match = claim.match
        yield _wrong_mode(claim)
        for node in match.nodes:
            yield self._reserved(node, claim.choice, claims) or self.mutated.get(node)
            yield float_reason(node)
        yield from map(self._wrong_type, (*match.inputs, match.output))
        if match.inputs and self.index.constants.issuperset(match.inputs):
            yield "it computes a constant, which convert folds"
        if match.inputs and self.index.fixed.issuperset(match.inputs):
            yield "it is computed from numbers and sizes alone, not from activations"
        if self.index.counts.issuperset(match.nodes):
            yield "its values are only rounded to integers: int8 would return different integers"
        yield refused_by_rule(claim)

    def _reserved(self, node: Node, choice: Choice, claims: Claims) -> str | None:
        if node in claims.by_node:
            pattern = claims.by_node[node].annotator.name
            return f"{node.name} belongs to the pattern {pattern} already"
        if node in self.taken:
            return f"{node.name} {TAKEN}"
        if not choice.covers(self.scopes.choice(node)):
            return f"{node.name}, a part of the pattern, is configured differently"
        if self.keep is not None and not self.keep(node):
            return f"the filter function leaves {node.name} out"
        return None

    def _wrong_type(self, node: Node) -> str | None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return f"{node.name} is not one tensor"
        if str(value.dtype) not in self.dtypes:
            wanted = " or ".join(sorted(self.dtypes))
            return f"{node.name} is {value.dtype}: {self.backend} quantizes {wanted}"
        return None

    def why_float(
        self,
        node: Node,
        claims: Claims,
        targets: Collection[str],
        failed: Sequence[AnnotatorError],
    ) -> str:
        """Return why an operator without a claim stays in float.

        ``targets`` are the operators that annotators start from; ``failed`` are the errors of
        those that are skipped.
        """
        return (
            self._kept_by_scope(node)
            or float_reason(node)
            or claims.reasons.get(node)
            or self.mutated.get(node)
            or _never_quantized(node)
            or _failed_at(node, failed)
            or self._unmatched(node, targets)
        )

    def _kept_by_scope(self, node: Node) -> str | None:
        if node in self.taken:
            return TAKEN
        choice = self.scopes.choice(node)
        if choice is None:
            return "no config covers it"
        return f"{choice} keeps it in float" if choice.config is None else None

    def _unmatched(self, node: Node, targets: Collection[str]) -> str:
        name = operator_name(node.target)
        if name not in targets:
            return no_annotator(self.backend, name)
        return self._wrong_type(node) or f"no pattern of {self.backend} fits this {name}"


def no_annotator(backend: str, operator: str) -> str:
    """Return the reason for an operator that is not a target of any annotator."""
    return f"{backend} has no annotator for {operator}"


def _wrong_mode(claim: Claim) -> str | None:
    annotator, choice = claim.annotator, claim.choice
    if choice.mode in annotator.modes:
        return None
    if choice.mode == "weight":
        return UNQUANTIZED_ACTIVATIONS
    modes = " and ".join(sorted(annotator.modes))
    return f"{annotator.name} is quantized in {modes} mode, {choice.label} is {choice.mode}"


def _never_quantized(node: Node) -> str | None:
    if node.target in LOOPS:
        return "a loop: each operator of its body has a separate decision"
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return "control flow: the operators in its branches stay in float"
    return NORMS.get(operator_name(node.target))


def _failed_at(node: Node, failed: Sequence[AnnotatorError]) -> str | None:
    name = operator_name(node.target)
    found = next((error for error in failed if name in error.targets), None)
    if found is None:
        return None
    return f"annotator {found.annotator} of {found.distribution} failed on the model"
