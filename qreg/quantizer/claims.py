"""The claims of annotators on the nodes of a graph."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen
from torch.fx import Node

from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotator, Match
from qreg.quantizer.scopes import Choice


@frozen
class Claim:
    """A match, the annotator that found it, and the config choice that it is annotated with."""

    supplied: Supplied[Annotator]
    match: Match
    choice: Choice

    @property
    def annotator(self) -> Annotator:
        return self.supplied.value


@define
class Claims:
    """The claims on a graph by node, and the reasons of rejected claims.

    ``position`` is the position of each node in the graph. A reason is stored at the first node of
    the rejected pattern.
    """

    position: Mapping[Node, int]
    by_node: dict[Node, Claim] = field(factory=dict)
    reasons: dict[Node, str] = field(factory=dict)
    _of_the_mode: set[Node] = field(factory=set, init=False)

    def add(self, claim: Claim) -> None:
        self.by_node.update(dict.fromkeys(claim.match.nodes, claim))

    def withdraw(self, claim: Claim, reason: str) -> None:
        """Remove a claim, and keep the reason."""
        for node in claim.match.nodes:
            del self.by_node[node]
        self.reasons[claim.match.anchor] = reason

    def reject(self, claim: Claim, reason: str) -> None:
        """Keep the reason of the last pattern for the mode of the config, or of the last one."""
        node = claim.match.anchor
        if claim.choice.mode in claim.annotator.modes:
            self._of_the_mode.add(node)
        elif node in self._of_the_mode:
            return
        self.reasons[node] = reason

    def in_graph_order(self) -> list[Claim]:
        claims = {claim.match.output: claim for claim in self.by_node.values()}
        return sorted(claims.values(), key=lambda claim: self.position[claim.match.output])
