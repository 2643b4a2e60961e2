"""Build one annotator of a common kind: a fused chain, or a unary operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qreg.annotators import patterns
from qreg.annotators.annotate import shared_with_producer, standard
from qreg.annotators.profitability import Islands
from qreg.annotators.rules import nonempty, quantized_operands
from qreg.plugins.types.annotator import Annotate, Annotator, Matcher, Rule
from qreg.plugins.types.backend import STATIC, Mode


def chain(
    name: str,
    targets: Sequence[str],
    head: Matcher,
    *followers: Iterable[str],
    modes: Iterable[Mode] = STATIC,
    rules: Iterable[Rule] = (),
    annotate: Annotate = standard,
    summary: str = "",
) -> Annotator:
    """Return an annotator for a chain of operators that the backend fuses into one kernel.

    The chain starts with a match of ``head`` at one of the operators ``targets``, followed by one
    operator out of each of ``followers``. ``summary`` describes the head alone.
    """
    links = [frozenset(each) for each in followers]
    described = ", then ".join([summary or _names(targets), *map(_names, followers)])
    return Annotator(
        name,
        targets,
        patterns.fused(head, *links) if links else head,
        modes,
        rules,
        annotate,
        summary=described,
    )


def carrying(name: str, targets: Sequence[str], *rules: Rule) -> Annotator:
    """Return an annotator for an operator that pools, clips or moves values with shared qparams."""
    return Annotator(
        name,
        targets,
        patterns.operands(0),
        rules=rules,
        annotate=shared_with_producer,
        summary="on the qparams of its input",
    )


def continuing(
    islands: Islands, name: str, targets: Sequence[str], *rules: Rule, summary: str = ""
) -> Annotator:
    """Return an annotator for a unary operator, quantized between compute operators.

    The output has its own qparams.
    """
    return chain(
        name,
        targets,
        patterns.operands(0),
        rules=(quantized_operands, *rules, nonempty, islands.feeds_products),
        annotate=islands.continued,
        summary=summary,
    )


def _names(operators: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(name.split(".")[1] for name in operators))
