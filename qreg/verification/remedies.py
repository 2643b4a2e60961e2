"""The scopes that keep operators in float, for messages that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qreg.plugins.types.decision import Decision


def scope_of(decision: Decision, decisions: Iterable[Decision]) -> str:
    """The call of a quantizer that keeps an operator in float, and little else.

    That is by the name of its module, or by the type of the operator where it is in none, or in one
    that holds more than half of what is quantized.
    """
    quantized = [each for each in decisions if each.quantized]
    inside = [each for each in quantized if _is_in(each.module, decision.module)]
    alone = {each.node for each in inside} <= {decision.node, *decision.pattern}
    if decision.module and (alone or 2 * len(inside) <= len(quantized)):
        return f'set_module_name("{decision.module}", None)'
    return f'set_operator_type("{decision.operator}", None)'


def anchor_of(decision: Decision) -> str:
    """The operator that the pattern of a quantized one starts from, by which scopes are chosen."""
    return next(iter(decision.pattern), decision.node)


def scopes_of(names: Iterable[str], decisions: Sequence[Decision]) -> list[str]:
    """The calls that keep in float the patterns of those operators that are quantized."""
    quantized = {each.node: each for each in decisions if each.quantized}
    anchors = dict.fromkeys(anchor_of(quantized[name]) for name in names if name in quantized)
    return [scope_of(quantized[name], decisions) for name in anchors if name in quantized]


def _is_in(module: str, parent: str) -> bool:
    return module == parent or module.startswith(f"{parent}.")
