"""A backend whose stock annotators are somebody else's torchao Quantizer.

The host's own annotators, of whatever distribution, have been asked before; a foreign quantizer
annotates what they left. It knows nothing of scopes, so for each config it is shown a graph in
which everything else is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from qreg.annotation import output_spec
from qreg.compat import annotate_node, annotation_of, restore_annotation
from qreg.model import Decision, Supplied
from qreg.scopes import Choice, Scopes

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer


@define(eq=False)
class ForeignQuantizers:
    """A foreign quantizer for each config that the scopes have."""

    make: Callable[[QuantizationConfig], Quantizer]
    backend: Supplied
    scopes: Scopes
    _made: dict[int, tuple[Choice, Quantizer]] = field(factory=dict, init=False)

    def parts(self) -> Iterable[tuple[Choice, Quantizer]]:
        """Each config, as the choice that names it, and the quantizer that was made for it."""
        for choice in self.scopes.choices():
            if choice.config is not None and id(choice.config) not in self._made:
                self._made[id(choice.config)] = choice, self.make(choice.config)
        return self._made.values()

    def transform(self, model: GraphModule) -> GraphModule:
        for _, quantizer in self.parts():
            model = quantizer.transform_for_annotation(model)
        return model

    def annotate(self, model: GraphModule, decisions: Sequence[Decision]) -> list[Decision]:
        """Annotates what is free, and returns the Decisions with those of the foreign quantizer."""
        before = {node: annotation_of(node) for node in model.graph.nodes}
        for choice, quantizer in self.parts():
            self._annotate_under(choice, quantizer, model)
        for node, annotation in before.items():
            if annotation is not None:
                restore_annotation(node, annotation)
        nodes = {node.name: node for node in model.graph.nodes}
        return [self._decided(each, nodes.get(each.node)) for each in decisions]

    def _annotate_under(self, choice: Choice, quantizer: Quantizer, model: GraphModule) -> None:
        others = [
            (node, annotate_node(node, None))
            for node in model.graph.nodes
            if node.op == "call_function"
            and not annotation_of(node)
            and not self._has(node, choice)
        ]
        quantizer.annotate(model)
        for node, _ in others:
            restore_annotation(node, None)

    def _has(self, node: Node, choice: Choice) -> bool:
        found = self.scopes.choice(node)
        return found is not None and found.config is choice.config

    def _decided(self, decision: Decision, node: Node | None) -> Decision:
        if decision.quantized or node is None:
            return decision
        choice = self.scopes.choice(node)
        if choice is None or choice.config is None:
            return decision
        name = type(self._made[id(choice.config)][1]).__name__
        found = annotation_of(node)
        if found is None:
            return evolve(decision, reason=f"{name} does not annotate it")
        shared = isinstance(output_spec(node), SharedQuantizationSpec)
        return evolve(
            decision,
            status="shared" if shared else "annotated",
            reason=f"{choice.label}, by {choice}",
            annotator=name,
            distribution=self.backend.distribution,
            config=choice.label,
            pattern=(node.name,),
        )

    def validate(self, model: GraphModule) -> None:
        for _, quantizer in self.parts():
            quantizer.validate(model)

    def prepare_obs_or_fq_callback(self, model: GraphModule, observers: dict[Any, Any]) -> None:
        for _, quantizer in self.parts():
            quantizer.prepare_obs_or_fq_callback(model, observers)
