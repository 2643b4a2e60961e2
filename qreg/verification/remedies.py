"""Scopes that keep operators in float, for the remedies in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision


def scope_of(decision: Decision, decisions: Iterable[Decision]) -> str:
    """Return the quantizer call that keeps an operator in float, and little else.

    The call is by the name of its module. It is by the type of the operator if the operator is in
    no module, or in a module with more than half of the quantized operators.
    """
    quantized = [each for each in decisions if each.quantized]
    inside = [each for each in quantized if is_in(each.module, decision.module)]
    alone = {each.node for each in inside} <= {decision.node, *decision.pattern}
    if decision.module and (alone or 2 * len(inside) <= len(quantized)):
        return f'set_module_name("{decision.module}", None)'
    return f'set_operator_type("{decision.operator}", None)'


def anchor_of(decision: Decision) -> str:
    """Return the first operator of a quantized pattern, which decides on the scope."""
    return next(iter(decision.pattern), decision.node)


def scopes_of(names: Iterable[str], decisions: Sequence[Decision]) -> list[str]:
    """Return the calls that keep the patterns of these operators in float, if quantized."""
    quantized = {each.node: each for each in decisions if each.quantized}
    anchors = dict.fromkeys(anchor_of(quantized[name]) for name in names if name in quantized)
    return [scope_of(quantized[name], decisions) for name in anchors if name in quantized]


def calls_of(
    names: Iterable[str], decisions: Sequence[Decision]
) -> tuple[tuple[str, str, int], ...]:
    """Return the module, the operator and the ordinal of the patterns' operators, if quantized."""
    wanted = set(names)
    patterns = [each for each in decisions if each.quantized]
    return tuple(
        (each.module, each.operator, each.ordinal)
        for each in patterns
        if wanted.intersection(each.pattern or (each.node,))
    )


def is_in(module: str, parent: str) -> bool:
    """Whether a module, by its path, is another or inside of it."""
    return module == parent or module.startswith(f"{parent}.")
