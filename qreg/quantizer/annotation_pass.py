"""The pass over one graph that turns annotators and scopes into annotations and Decisions.

First every annotator, in order, claims the matches that are free, wanted and not refused; then the
claims are annotated in the order of the graph, so that whoever shares the parameters of its input
finds them decided. The cost grows with the nodes: each annotator is only asked about the operators
it starts from, and a config is looked up, not searched for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from attrs import frozen
from torch.fx import Node
from torchao.quantization.pt2e.quantizer import QuantizationSpecBase, SharedQuantizationSpec

from qreg.annotators.annotate import output_spec, standard
from qreg.annotators.profitability import one_pass
from qreg.annotators.rules import forget_masks
from qreg.configs.validation import mode_of
from qreg.errors import AnnotatorError, QregError
from qreg.graph.compat import annotate_node, annotation_of, restore_annotation
from qreg.graph.index import GraphIndex
from qreg.graph.mutation import Mutations
from qreg.graph.provenance import module_path
from qreg.plugins.operator_names import operator_name
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotation, Annotator, Match, Refusal
from qreg.plugins.types.decision import Decision, Status
from qreg.quantizer.scopes import Choice, Scopes

if TYPE_CHECKING:
    from torch.fx import GraphModule
    from torchao.quantization.pt2e.quantizer import QuantizationConfig


T = TypeVar("T")
NodeFilter = Callable[["Node"], bool]

# torchao prepares the bodies of these, each as a graph by itself.
LOOPS = (torch.ops.higher_order.scan, torch.ops.higher_order.while_loop)
SHARES = "runs on the parameters of its input"
# Batch norms that are not folded, under the names that they have by then.
COMPUTED_NORM = "its statistics or parameters are computed while the model runs"
NORMS = {
    "aten._native_batch_norm_legit.no_stats": (
        "normalizes with the statistics of each batch, not with fixed running statistics"
    ),
    "aten.native_batch_norm.default": COMPUTED_NORM,
    "aten._native_batch_norm_legit_no_training.default": COMPUTED_NORM,
}


@frozen
class Claim:
    """A match, the annotator it belongs to, and the choice it is annotated under."""

    supplied: Supplied[Annotator]
    match: Match
    choice: Choice

    @property
    def annotator(self) -> Annotator:
        return self.supplied.value


class AnnotatorWarning(UserWarning):
    """An annotator failed on a graph and was left out there; the others annotated it."""


def annotated(
    graph_module: GraphModule,
    annotators: Sequence[Supplied[Annotator]],
    scopes: Scopes,
    *,
    strict: bool,
    **options: Any,
) -> list[Decision]:
    """Annotates a graph and returns a Decision for each operator.

    An annotator that fails takes no other down: its work is undone, a warning names it, and the
    graph is annotated without it. Raises ``AnnotatorError`` instead if ``strict``.
    """
    failed: list[AnnotatorError] = []
    while True:
        names = {error.annotator for error in failed}
        working = [each for each in annotators if each.value.name not in names]
        walk = AnnotationPass(graph_module, working, scopes, failed=failed, **options)
        try:
            return walk.run()
        except AnnotatorError as error:
            walk.undo()
            if strict:
                raise
            warnings.warn(str(error), AnnotatorWarning, stacklevel=3)
            failed.append(error)


class AnnotationPass:
    """One walk over one graph; ``run`` does it and returns a Decision for each operator."""

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
        self._annotators, self._scopes, self._keep = annotators, scopes, keep
        self._failed = failed
        self._nodes = graph_module.graph.nodes
        self._backend, self._dtypes = backend, frozenset(dtypes)
        self._operators = [n for n in graph_module.graph.nodes if _is_operator(n)]
        self._taken = {n: found for n in self._nodes if (found := annotation_of(n))}
        self._written = dict(self._taken)
        self._targets = {target for each in annotators for target in each.value.targets}
        forget_masks(graph_module.graph)
        self._graph = graph_module.graph
        mutations = Mutations.of(graph_module.graph)
        self._index = GraphIndex(graph_module.graph, mutations.is_state)
        self._mutated = mutations.reasons(graph_module.graph)
        self._claims: dict[Node, Claim] = {}
        self._shared: set[Node] = set()
        self._reasons: dict[Node, str] = {}

    def _is_kept(self, node: Node) -> bool:
        """Whether the scopes leave a node in float, so that no annotator is asked about it."""
        choice = self._scopes.choice(node)
        return choice is None or choice.config is None

    def run(self) -> list[Decision]:
        kept = list(filter(self._is_kept, self._operators))
        with one_pass(self._graph, kept):
            self._claim_and_annotate()
        return [self._decision(node) for node in self._operators]

    def _claim_and_annotate(self) -> None:
        for supplied in self._annotators:
            for node in self._index.starting(supplied.value.targets):
                self._consider(supplied, node)
        for claim in self._in_graph_order():
            self._annotate(claim)
        self._check_strays()

    def _check_strays(self) -> None:
        """Only the host writes annotations: one that it did not write is an annotator's fault."""
        for node in self._nodes:
            if annotation_of(node) is not self._written.get(node):
                problem = f"it wrote an annotation to {node.name} itself, instead of returning one"
                raise _failure(self._writer(node), node, problem)

    def _writer(self, stray: Node) -> Supplied[Annotator]:
        """Who writes to a node: found by doing all of it again, and looking after each step."""
        self.undo()
        self._claims.clear()
        self._written = dict(self._taken)
        for supplied in self._annotators:
            for node in self._index.starting(supplied.value.targets):
                self._consider(supplied, node)
            if annotation_of(stray) is not self._written.get(stray):
                return supplied
        for claim in self._in_graph_order():
            self._annotate(claim)
            if annotation_of(stray) is not self._written.get(stray):
                return claim.supplied
        raise QregError(
            f"node {stray.name!r}: an annotator annotated it, and none does so again (expected it "
            "to return annotations). Load one plugin at a time with QREG_LOAD_PLUGINS to find it."
        )

    def undo(self) -> None:
        """Gives every node the annotation that it had before, if any."""
        for node in self._nodes:
            restore_annotation(node, self._taken.get(node))

    def claims(self) -> list[Claim]:
        """The claims that were annotated, in the order of the graph."""
        return [claim for claim in self._in_graph_order() if claim.match.output in self._claims]

    def _in_graph_order(self) -> list[Claim]:
        position = self._index.position
        claims = {claim.match.output: claim for claim in self._claims.values()}
        return sorted(claims.values(), key=lambda claim: position[claim.match.output])

    def _consider(self, supplied: Supplied[Annotator], node: Node) -> None:
        if node in self._claims or node in self._taken:
            return
        match = _ask(supplied, node, supplied.value.match, node)
        if match is None:
            return
        _check_type(supplied, node, "match", match, Match)
        for part in (*match.nodes, *match.inputs):
            _check_type(supplied, node, "match", part, Node)
        choice = self._scopes.choice(match.anchor)
        if choice is None or choice.config is None:
            return
        reason = self._refusal(supplied, match, choice)
        if reason is None:
            self._claims.update(dict.fromkeys(match.nodes, Claim(supplied, match, choice)))
        else:
            self._reasons[match.anchor] = reason

    def _refusal(self, supplied: Supplied[Annotator], match: Match, choice: Choice) -> str | None:
        annotator = supplied.value
        if choice.mode not in annotator.modes:
            modes = " and ".join(sorted(annotator.modes))
            return f"{annotator.name} is quantized in {modes} mode, {choice.label} is {choice.mode}"
        for node in match.nodes:
            reason = self._reserved(node, choice) or self._mutated.get(node)
            if reason:
                return reason
        for node in (*match.inputs, match.output):
            reason = self._wrong_type(node)
            if reason:
                return reason
        if self._index.constants.issuperset(match.inputs):
            return "it computes a constant, which convert folds"
        for rule in annotator.rules:
            answer = _ask(supplied, match.anchor, rule, match, choice.config)
            _check_type(supplied, match.anchor, "rule", answer, (str, type(None)))
            if answer:
                return str(answer)
        return None

    def _reserved(self, node: Node, choice: Choice) -> str | None:
        if node in self._claims:
            return f"{node.name} belongs to the pattern {self._claims[node].annotator.name} already"
        if node in self._taken:
            return f"{node.name} was annotated before"
        if not choice.covers(self._scopes.choice(node)):
            return f"{node.name}, a part of the pattern, is configured differently"
        if self._keep is not None and not self._keep(node):
            return f"the filter function leaves {node.name} out"
        return None

    def _wrong_type(self, node: Node) -> str | None:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return f"{node.name} is not one tensor"
        if str(value.dtype) not in self._dtypes:
            wanted = " or ".join(sorted(self._dtypes))
            return f"{node.name} is {value.dtype}: {self._backend} quantizes {wanted}"
        return None

    def _annotate(self, claim: Claim) -> None:
        match, annotator = claim.match, claim.annotator
        annotate = annotator.annotate or standard
        answer = _ask(claim.supplied, match.anchor, annotate, match, claim.choice.config)
        _check_type(claim.supplied, match.anchor, "annotate", answer, (Refusal, list, tuple))
        if isinstance(answer, Refusal):
            for node in match.nodes:
                del self._claims[node]
            self._reasons[match.anchor] = answer.reason
            return
        for annotation in answer:
            _check_type(claim.supplied, match.anchor, "annotate", annotation, Annotation)
            _check_annotation(claim.supplied, match.anchor, annotation)
        annotations = {annotation.node: annotation for annotation in answer}
        _check_bounds(claim, annotations)
        for node in match.nodes:
            self._written[node] = annotate_node(node, annotations.get(node))
        self._shared.update(filter(_shares, match.nodes))

    def _decision(self, node: Node) -> Decision:
        claim = self._claims.get(node)
        if claim is None:
            reason = self._why_float(node)
            return Decision(node.name, str(node.target), module_path(node), "float", reason)
        status: Status = "shared" if node in self._shared else "annotated"
        own = f"{claim.choice.label}, by {claim.choice}"
        return Decision(
            node=node.name,
            operator=str(node.target),
            module=module_path(node),
            status=status,
            reason=SHARES if status == "shared" else own,
            annotator=claim.annotator.name,
            distribution=claim.supplied.distribution,
            config=claim.choice.label,
            pattern=tuple(each.name for each in claim.match.nodes),
        )

    def _why_float(self, node: Node) -> str:
        if node in self._taken:
            return "was annotated before"
        choice = self._scopes.choice(node)
        if choice is None:
            return "no config covers it"
        if choice.config is None:
            return f"{choice} keeps it in float"
        if node in self._reasons:
            return self._reasons[node]
        if node in self._mutated:
            return self._mutated[node]
        if node.target in LOOPS:
            return "a loop: the operators of its body are decided on one by one"
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return "control flow: what is inside its branches stays in float"
        name = operator_name(node.target)
        if name in NORMS:
            return NORMS[name]
        for error in self._failed:
            if name in error.targets:
                return f"annotator {error.annotator} of {error.distribution} failed on the model"
        if name in self._targets:
            return self._wrong_type(node) or f"no pattern of {self._backend} fits this {name}"
        return f"{self._backend} has no annotator for {name}"


def annotate_with(
    annotators: Sequence[Annotator],
    graph_module: GraphModule,
    config: QuantizationConfig | None,
    filter_fn: NodeFilter | None = None,
) -> list[list[Node]]:
    """Annotate a whole graph in place with these annotators alone.

    ``filter_fn`` keeps the matches whose nodes all pass. Returns the nodes of each annotated match,
    constants last; ``None`` as the config annotates nothing.
    """
    if config is None:
        return []
    scopes = Scopes(everywhere=Choice("global", "", "custom", config, mode_of(config)))
    walk = AnnotationPass(
        graph_module,
        [Supplied(annotator, "", "") for annotator in annotators],
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


def _is_operator(node: Node) -> bool:
    """Whether a node computes tensors; assertions and symbolic sizes do not."""
    operator = isinstance(node.target, (torch._ops.OpOverload, torch._ops.HigherOrderOperator))
    if node.op != "call_function" or not operator:
        return False
    values = node.meta.get("val")
    listed = values if isinstance(values, (tuple, list)) else (values,)
    return any(isinstance(value, torch.Tensor) for value in listed)


def _ask(
    supplied: Supplied[Annotator], node: Node, function: Callable[..., T], *arguments: object
) -> T:
    try:
        return function(*arguments)
    except Exception as cause:
        raise _failure(supplied, node, repr(cause)) from cause


def _failure(supplied: Supplied[Annotator], node: Node, problem: str) -> AnnotatorError:
    annotator = supplied.value
    who = annotator.name, supplied.distribution, supplied.version, annotator.targets
    return AnnotatorError(*who, node.name, problem)


def _check_type(
    supplied: Supplied[Annotator], node: Node, role: str, answer: object, wanted: Any
) -> None:
    if not isinstance(answer, wanted):
        raise _failure(supplied, node, f"its {role} returned {answer!r}")


def _check_annotation(supplied: Supplied[Annotator], node: Node, annotation: Annotation) -> None:
    _check_type(supplied, node, "annotate", annotation.inputs, Mapping)
    for part in (annotation.node, *annotation.inputs):
        _check_type(supplied, node, "annotate", part, Node)
    specs = [*annotation.inputs.values(), annotation.output]
    for spec in specs:
        _check_type(supplied, node, "annotate", spec, (QuantizationSpecBase, type(None)))


def _check_bounds(claim: Claim, annotations: dict[Node, Annotation]) -> None:
    for node, annotation in annotations.items():
        strangers = [each for each in annotation.inputs if each not in node.all_input_nodes]
        if node not in claim.match.nodes or strangers:
            outside = strangers[0] if strangers else node
            problem = f"it annotates {outside.name}, which is not part of its match"
            raise _failure(claim.supplied, claim.match.anchor, problem)


def _shares(node: Node) -> bool:
    return isinstance(output_spec(node), SharedQuantizationSpec)
