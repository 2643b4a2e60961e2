"""Call annotators, and check what they return; errors name the annotator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch.fx import Node
from torchao.quantization.pt2e.quantizer import QuantizationSpecBase

from qreg.annotators.annotate import standard
from qreg.errors import AnnotatorError
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotation, Annotator, Match, Refusal
from qreg.quantizer.claims import Claim
from qreg.utils.traces import place, short

T = TypeVar("T")


def failure(supplied: Supplied[Annotator], node: Node, problem: str) -> AnnotatorError:
    """Return the error of an annotator at a node."""
    annotator = supplied.value
    who = annotator.name, supplied.distribution, supplied.version, annotator.targets
    return AnnotatorError(*who, node.name, problem)


def match_at(supplied: Supplied[Annotator], node: Node) -> Match | None:
    """Return the match of an annotator that starts from a node. Raises ``AnnotatorError``."""
    match = _ask(supplied, node, supplied.value.match, node)
    if match is not None:
        _check(supplied, node, "match", match, Match)
        for part in (*match.nodes, *match.inputs):
            _check(supplied, node, "match", part, Node)
    return match


def refused_by_rule(claim: Claim) -> str | None:
    """Return the reason of the first rule that rejects a claim, or None.

    Raises ``AnnotatorError``.
    """
    anchor = claim.match.anchor
    for rule in claim.annotator.rules:
        answer = _ask(claim.supplied, anchor, rule, claim.match, claim.choice.config)
        if answer is not None:
            _check(claim.supplied, anchor, "rule", answer, str)
        if answer:
            return answer
    return None


def annotations_of(claim: Claim) -> dict[Node, Annotation] | Refusal:
    """Return the annotations of a claim by node, or a ``Refusal``. Raises ``AnnotatorError``."""
    annotate, anchor = claim.annotator.annotate or standard, claim.match.anchor
    answer = _ask(claim.supplied, anchor, annotate, claim.match, claim.choice.config)
    _check(claim.supplied, anchor, "annotate", answer, (Refusal, list, tuple))
    if isinstance(answer, Refusal):
        return answer
    for annotation in answer:
        _check(claim.supplied, anchor, "annotate", annotation, Annotation)
        _check_parts(claim.supplied, anchor, annotation)
    _check_bounds(claim, answer)
    return {annotation.node: annotation for annotation in answer}


def _ask(
    supplied: Supplied[Annotator], node: Node, function: Callable[..., T], *arguments: object
) -> T:
    try:
        return function(*arguments)
    except Exception as cause:  # raised by a plugin
        raise failure(supplied, node, f"{short(cause)}{place(cause)}") from cause


def _check(
    supplied: Supplied[Annotator], node: Node, role: str, answer: object, wanted: Any
) -> None:
    if not isinstance(answer, wanted):
        raise failure(supplied, node, f"its {role} returned {answer!r}")


def _check_parts(supplied: Supplied[Annotator], node: Node, annotation: Annotation) -> None:
    _check(supplied, node, "annotate", annotation.inputs, Mapping)
    for part in (annotation.node, *annotation.inputs):
        _check(supplied, node, "annotate", part, Node)
    for spec in (*annotation.inputs.values(), annotation.output):
        _check(supplied, node, "annotate", spec, (QuantizationSpecBase, type(None)))


def _check_bounds(claim: Claim, annotations: Sequence[Annotation]) -> None:
    for annotation in annotations:
        node = annotation.node
        read = set(node.all_input_nodes)
        strangers = [each for each in annotation.inputs if each not in read]
        if node not in claim.match.nodes or strangers:
            outside = strangers[0] if strangers else node
            problem = f"it annotates {outside.name}, which is not part of its match"
            raise failure(claim.supplied, claim.match.anchor, problem)
