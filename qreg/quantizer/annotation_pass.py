"""The pass over one graph that turns annotators and scopes into annotations and Decisions.

First every annotator, in order, claims the matches that are free, wanted and not rejected. Then the
claims are annotated in the order of the graph, so that the qparams of an input are decided ahead of
the operators that share them. The cost is linear in the nodes: each annotator is called only for
the operators in its ``targets``, and a config is looked up, not searched for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch.fx import Node
from torchao.quantization.pt2e.quantizer import SharedQuantizationSpec

from qreg.annotators.annotate import output_spec
from qreg.annotators.masks import forget_masks
from qreg.annotators.profitability import one_pass
from qreg.configs.validation import mode_of
from qreg.errors import AnnotatorError
from qreg.graph.layers import part_of, row_of, rows
from qreg.graph.nodes import computes_tensors
from qreg.graph.provenance import module_path
from qreg.plugins.plugin import Plugin
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotator, Match, Refusal
from qreg.plugins.types.decision import Decision
from qreg.quantizer.answers import annotations_of, match_at
from qreg.quantizer.claims import Claim, Claims
from qreg.quantizer.eligibility import Eligibility, NodeFilter
from qreg.quantizer.scopes import Choice, Scopes
from qreg.quantizer.strays import Annotations, check_strays

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


NOBODY = Plugin("", "", "", load=object)  # the caller of annotate_with supplies annotators
SHARES = "runs on the qparams of its input"


class AnnotatorWarning(UserWarning):
    """An annotator failed on a graph and was skipped; the graph was annotated without it."""


def annotated(
    graph_module: GraphModule,
    annotators: Sequence[Supplied[Annotator]],
    scopes: Scopes,
    *,
    strict: bool,
    **options: Any,
) -> list[Decision]:
    """Annotate a graph and return a Decision for each operator.

    An annotator that fails does not affect the others: its annotations are undone, a warning names
    it, and the graph is annotated without it. Raises ``AnnotatorError`` instead if ``strict``.
    """
    failed: list[AnnotatorError] = []
    while True:
        names = {error.annotator for error in failed}
        working = [each for each in annotators if each.value.name not in names]
        walk = AnnotationPass(graph_module, working, scopes, failed=failed, **options)
        try:
            if scopes.calls:
                others = scopes.without_calls()
                general = AnnotationPass(graph_module, working, others, failed=failed, **options)
                scopes.extend(graph_module.graph, general.patterns())
            return walk.run()
        except AnnotatorError as error:
            walk.undo()
            if strict:
                raise
            warnings.warn(str(error), AnnotatorWarning, stacklevel=3)
            failed.append(error)


class AnnotationPass:
    """One pass over one graph; ``run`` executes it and returns a Decision for each operator."""

    def __init__(
        self,
        graph_module: GraphModule,
        annotators: Sequence[Supplied[Annotator]],
        scopes: Scopes,
        *,
        backend: str,
        dtypes: Sequence[str],
        keep: NodeFilter | None = None,
        failed: Sequence[AnnotatorError] = (),
    ) -> None:
        graph = self._graph = graph_module.graph
        self._scopes = scopes
        self._annotators, self._failed = annotators, failed
        self._operators = list(filter(computes_tensors, graph.nodes))
        self._annotations = Annotations.of(graph)
        taken = self._annotations.taken
        self._eligible = Eligibility.of(graph, taken, scopes, backend, dtypes, keep)
        self._claims = Claims(self._eligible.index.position)
        self._targets = {target for each in annotators for target in each.value.targets}
        forget_masks(graph)

    def run(self) -> list[Decision]:
        with one_pass(self._graph, self._kept()):
            for _ in self._steps():
                pass
            check_strays(self._annotations, self._steps_again)
        return [self._of_row(nodes) for nodes in rows(self._operators).values()]

    def patterns(self) -> list[tuple[Node, ...]]:
        """Return the nodes of each claim, without annotating any."""
        with one_pass(self._graph, self._kept()):
            for _ in self._claimed():
                pass
        return [claim.match.nodes for claim in self.claims()]

    def _kept(self) -> list[Node]:
        return [node for node in self._operators if self._eligible.choice(node) is None]

    def undo(self) -> None:
        """Restore the annotation that each node had ahead of the pass, if any."""
        self._annotations.undo()

    def claims(self) -> list[Claim]:
        """Return the claims that were annotated, in the order of the graph."""
        return self._claims.in_graph_order()

    def _steps(self) -> Iterator[Supplied[Annotator]]:
        """Claim, then annotate; yield the annotator of each step after the step."""
        yield from self._claimed()
        for claim in self._claims.in_graph_order():
            self._annotate(claim)
            yield claim.supplied

    def _claimed(self) -> Iterator[Supplied[Annotator]]:
        for supplied in self._annotators:
            for node in self._eligible.index.starting(supplied.value.targets):
                self._consider(supplied, node)
            yield supplied

    def _steps_again(self) -> Iterator[Supplied[Annotator]]:
        self.undo()
        self._claims = Claims(self._eligible.index.position)
        return self._steps()

    def _consider(self, supplied: Supplied[Annotator], node: Node) -> None:
        if node in self._claims.by_node or node in self._eligible.taken:
            return
        match = match_at(supplied, node)
        choice = None if match is None else self._eligible.choice(match.anchor)
        if match is None or choice is None:
            return
        claim = Claim(supplied, match, choice)
        reason = self._eligible.refusal(claim, self._claims)
        if reason is None:
            self._claims.add(claim)
        else:
            self._claims.reject(claim, reason)

    def _annotate(self, claim: Claim) -> None:
        found = annotations_of(claim)
        if isinstance(found, Refusal):
            self._claims.withdraw(claim, found.reason)
            return
        for node in claim.match.nodes:
            self._annotations.write(node, found.get(node))

    def _of_row(self, nodes: Sequence[Node]) -> Decision:
        """Return the Decision on a row, that on an operator in float if there is one."""
        free = (node for node in nodes if node not in self._claims.by_node)
        return self._decision(next(free, nodes[0]))

    def _decision(self, node: Node) -> Decision:
        claim, part = self._claims.by_node.get(node), part_of(node)
        name, module = row_of(node), module_path(node)
        operator = part.layer if part and part.reason else str(node.target)
        ordinal = self._scopes.ordinal(node, operator)
        if claim is None:
            why = self._eligible.why_float(node, self._claims, self._targets, self._failed)
            return Decision(name, operator, module, "float", why, ordinal=ordinal)
        shares = isinstance(output_spec(node), SharedQuantizationSpec)
        return Decision(
            node=name,
            operator=operator,
            module=module,
            status="shared" if shares else "annotated",
            reason=SHARES if shares else f"{claim.choice.label}, by {claim.choice}",
            annotator=claim.annotator.name,
            distribution=claim.supplied.distribution,
            config=claim.choice.label,
            pattern=tuple(map(row_of, claim.match.nodes)),
            ordinal=ordinal,
        )


def annotate_with(
    annotators: Sequence[Annotator],
    graph_module: GraphModule,
    config: QuantizationConfig | None,
    filter_fn: NodeFilter | None = None,
) -> list[list[Node]]:
    """Annotate a whole graph in place with these annotators alone.

    ``filter_fn`` keeps the matches whose nodes all pass. Returns the nodes of each annotated match,
    constants last. With ``None`` as the config, nothing is annotated.
    """
    if config is None:
        return []
    scopes = Scopes(everywhere=Choice("global", "", "custom", config, mode_of(config)))
    walk = AnnotationPass(
        graph_module,
        [Supplied(annotator, NOBODY) for annotator in annotators],
        scopes,
        backend="the backend",
        dtypes=("torch.float32",),
        keep=filter_fn,
    )
    walk.run()
    return [_partition(claim.match) for claim in walk.claims()]


def _partition(match: Match) -> list[Node]:
    constants = [node for node in (match.weight, match.bias) if node is not None]
    return [*match.nodes, *constants]
