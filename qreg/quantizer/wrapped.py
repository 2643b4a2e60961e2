"""Backends that wrap a third-party torchao Quantizer.

Annotators from plugins are called first; the wrapped quantizer annotates the remaining operators.
It does not know scopes, so for each config it is called on a graph in which all other nodes are
marked as annotated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantizer import Quantizer, SharedQuantizationSpec

from qreg.annotators.annotate import output_spec
from qreg.graph.compat import annotate_node, annotation_of, restore_annotation
from qreg.graph.layers import float_reason, row_of
from qreg.graph.mutation import Mutations
from qreg.plugins.blame import call
from qreg.plugins.operator_names import operator_name
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.backend import Backend
from qreg.plugins.types.decision import Decision
from qreg.quantizer.eligibility import NodeFilter, no_annotator
from qreg.quantizer.scopes import Choice, Scopes

if TYPE_CHECKING:
    from torch.fx import Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


@define(eq=False)
class WrappedQuantizers:
    """A wrapped quantizer for each config in the scopes."""

    make: Callable[[QuantizationConfig], Quantizer]
    backend: Supplied[Backend]
    scopes: Scopes
    _made: dict[int, Quantizer] = field(factory=dict, init=False)
    _mutated: Mapping[Node, str] = field(factory=dict, init=False)

    def parts(self) -> list[tuple[Choice, Quantizer]]:
        """Return each config in the scopes, with the quantizer for it."""
        choices = {id(each.config): each for each in self.scopes.choices() if each.config}
        return [(choice, self._quantizer(choice)) for choice in choices.values()]

    def _quantizer(self, choice: Choice) -> Quantizer:
        key = id(choice.config)
        if key not in self._made:
            role, wanted = "quantizer", Quantizer
            self._made[key] = call(self.backend, role, self.make, choice.config, expected=wanted)
        return self._made[key]

    def _called(self, method: Callable[..., Any], *arguments: Any, expected: type = object) -> Any:
        """Call a method of a wrapped quantizer; errors name its distribution."""
        return call(self.backend, method.__name__, method, *arguments, expected=expected)

    def transform(self, model: GraphModule) -> GraphModule:
        for _, quantizer in self.parts():
            model = self._called(quantizer.transform_for_annotation, model, expected=GraphModule)
        return model

    def annotate(
        self, model: GraphModule, decisions: Sequence[Decision], keep: NodeFilter | None
    ) -> list[Decision]:
        """Annotate the free operators, and return all Decisions, with theirs updated."""
        taken = {node: found for node in model.graph.nodes if (found := annotation_of(node))}
        self._mutated = Mutations.of(model.graph).reasons(model.graph)
        for choice, quantizer in self.parts():
            self._annotate_under(choice, quantizer, model, keep)
        for node, annotation in taken.items():
            restore_annotation(node, annotation)
        free = {row_of(node): node for node in model.graph.nodes if node not in taken}
        return [
            self._decided(each, free[each.node], keep) if each.node in free else each
            for each in decisions
        ]

    def _annotate_under(
        self, choice: Choice, quantizer: Quantizer, model: GraphModule, keep: NodeFilter | None
    ) -> None:
        free = [n for n in model.graph.nodes if n.op == "call_function" and not annotation_of(n)]
        others = [n for n in free if not self._has(n, choice) or not _is_kept(n, keep)]
        others += [n for n in free if n in self._mutated or float_reason(n)]
        for node in others:
            annotate_node(node, None)
        try:
            self._called(quantizer.annotate, model)
        finally:
            for node in others:
                restore_annotation(node, None)

    def _has(self, node: Node, choice: Choice) -> bool:
        found = self.scopes.choice(node)
        return found is not None and found.config is choice.config

    def _decided(self, decision: Decision, node: Node, keep: NodeFilter | None) -> Decision:
        choice = self.scopes.choice(node)
        kept = node in self._mutated or bool(float_reason(node))
        if choice is None or choice.config is None or kept:
            return decision
        if not _is_kept(node, keep):
            return evolve(decision, reason=f"the filter function leaves {node.name} out")
        name = type(self._quantizer(choice)).__name__
        if annotation_of(node) is None:
            return evolve(decision, reason=self._why_left(decision, node, name))
        shared = isinstance(output_spec(node), SharedQuantizationSpec)
        return evolve(
            decision,
            status="shared" if shared else "annotated",
            reason=f"{choice.label}, by {choice}",
            annotator=name,
            distribution=self.backend.distribution,
            config=choice.label,
            pattern=(row_of(node),),
        )

    def _why_left(self, decision: Decision, node: Node, quantizer: str) -> str:
        """Return the reason of an annotator or rule, if any, and that of the wrapped quantizer."""
        left = f"{quantizer} does not annotate it"
        nobody = no_annotator(self.backend.value.name, operator_name(node.target))
        return left if decision.reason == nobody else f"{decision.reason}; {left}"

    def validate(self, model: GraphModule) -> None:
        for _, quantizer in self.parts():
            self._called(quantizer.validate, model)

    def prepare_obs_or_fq_callback(self, model: GraphModule, observers: dict[Any, Any]) -> None:
        for _, quantizer in self.parts():
            self._called(quantizer.prepare_obs_or_fq_callback, model, observers)


def _is_kept(node: Node, keep: NodeFilter | None) -> bool:
    return keep is None or keep(node)
