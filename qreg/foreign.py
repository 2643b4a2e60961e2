"""A backend whose stock annotators are somebody else's torchao Quantizer.

The host's own annotators, of whatever distribution, have been asked before; a foreign quantizer
annotates what they left. It knows nothing of scopes, so for each config it is shown a graph in
which everything else is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from qreg.annotation import output_spec
from qreg.compat import annotate_node, annotation_of, restore_annotation
from qreg.errors import PluginError, QregError
from qreg.model import Decision, Supplied
from qreg.mutation import Mutations
from qreg.scopes import Choice, Scopes

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node
    from torchao.quantization.pt2e.quantizer import QuantizationConfig, Quantizer

    from qreg.engine import NodeFilter


@define(eq=False)
class ForeignQuantizers:
    """A foreign quantizer for each config that the scopes have."""

    make: Callable[[QuantizationConfig], Quantizer]
    backend: Supplied
    scopes: Scopes
    _made: dict[int, Quantizer] = field(factory=dict, init=False)
    _mutated: Mapping[Node, str] = field(factory=dict, init=False)

    def parts(self) -> list[tuple[Choice, Quantizer]]:
        """Each config that a scope has now, and the quantizer that was made for it."""
        choices = {id(each.config): each for each in self.scopes.choices() if each.config}
        return [(choice, self._quantizer(choice)) for choice in choices.values()]

    def _quantizer(self, choice: Choice) -> Quantizer:
        key = id(choice.config)
        if key not in self._made:
            with self._blamed("making the quantizer"):
                assert choice.config is not None
                self._made[key] = self.make(choice.config)
        return self._made[key]

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """Names the distribution for what a foreign quantizer raises."""
        try:
            yield
        except QregError:
            raise
        except Exception as cause:
            who = self.backend.plugin, self.backend.distribution, self.backend.version
            raise PluginError(*who, f"{what} raised {cause!r}") from cause

    def transform(self, model: GraphModule) -> GraphModule:
        for _, quantizer in self.parts():
            with self._blamed("transform_for_annotation"):
                model = quantizer.transform_for_annotation(model)
        return model

    def annotate(
        self, model: GraphModule, decisions: Sequence[Decision], keep: NodeFilter | None
    ) -> list[Decision]:
        """Annotates what is free, and returns the Decisions with those of the foreign quantizer."""
        before = {node: annotation_of(node) for node in model.graph.nodes}
        self._mutated = Mutations.of(model.graph).reasons(model.graph)
        for choice, quantizer in self.parts():
            self._annotate_under(choice, quantizer, model, keep)
        for node, annotation in before.items():
            if annotation is not None:
                restore_annotation(node, annotation)
        nodes = {node.name: node for node in model.graph.nodes}
        return [self._decided(each, nodes.get(each.node), keep) for each in decisions]

    def _annotate_under(
        self, choice: Choice, quantizer: Quantizer, model: GraphModule, keep: NodeFilter | None
    ) -> None:
        free = [n for n in model.graph.nodes if n.op == "call_function" and not annotation_of(n)]
        others = [n for n in free if not self._has(n, choice) or not _is_kept(n, keep)]
        others += [n for n in free if n in self._mutated]
        for node in others:
            annotate_node(node, None)
        try:
            with self._blamed("annotate"):
                quantizer.annotate(model)
        finally:
            for node in others:
                restore_annotation(node, None)

    def _has(self, node: Node, choice: Choice) -> bool:
        found = self.scopes.choice(node)
        return found is not None and found.config is choice.config

    def _decided(self, decision: Decision, node: Node | None, keep: NodeFilter | None) -> Decision:
        choice = None if decision.quantized or node is None else self.scopes.choice(node)
        if node is None or choice is None or choice.config is None or node in self._mutated:
            return decision
        if not _is_kept(node, keep):
            return evolve(decision, reason=f"the filter function leaves {node.name} out")
        name = type(self._quantizer(choice)).__name__
        if annotation_of(node) is None:
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
            with self._blamed("validate"):
                quantizer.validate(model)

    def prepare_obs_or_fq_callback(self, model: GraphModule, observers: dict[Any, Any]) -> None:
        for _, quantizer in self.parts():
            with self._blamed("prepare_obs_or_fq_callback"):
                quantizer.prepare_obs_or_fq_callback(model, observers)


def _is_kept(node: Node, keep: NodeFilter | None) -> bool:
    return keep is None or keep(node)
