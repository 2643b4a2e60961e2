"""The line of code, or the option, that keeps operators in float, for messages that name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qreg.model import Decision
    from qreg.quantizer import RegistryQuantizer

SETTER = r"set_(?:module_name|operator_type)\((\"[^\"]*\"|\.\.\.), None\)"
LINE = re.compile(rf"(?:quantizer\.)?{SETTER}(?:\.{SETTER})*")
IN_OPTIONS = {
    "qreg.explain with numerics=True shows them": "`qreg explain --numerics` shows them",
    ", or make the quantizer with unknown_modules='warn' to go on without it.": ".",
}


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


def keeping_in_float(scopes: Sequence[str]) -> str:
    """A sentence with the line that makes these calls; empty without any."""
    if not scopes:
        return ""
    calls = ".".join(dict.fromkeys(scopes))
    return f"Keep {'it' if len(scopes) == 1 else 'them'} in float: quantizer.{calls}"


def as_options(message: str) -> str:
    """A message with options of the command line in place of lines of code."""
    for code, option in IN_OPTIONS.items():
        message = message.replace(code, option)
    return LINE.sub(lambda line: " ".join(map(_option, re.findall(SETTER, line[0]))), message)


def _option(scope: str) -> str:
    return f"--float {'NAME' if scope == '...' else scope}".replace('"', "")


def keep_in_float(quantizer: RegistryQuantizer, names: Iterable[str]) -> RegistryQuantizer:
    """The quantizer, set to keep these in float: modules by path, operators by name.

    Raises ``ConfigError`` for an operator that torch does not have; the quantizer rejects a module
    that the model does not have when it annotates.
    """
    from qreg.quantizer import is_operator

    for name in names:
        if is_operator(name) or name.startswith("aten."):
            quantizer.set_operator_type(name, None)
        else:
            quantizer.set_module_name(name, None)
    return quantizer


def _is_in(module: str, parent: str) -> bool:
    return module == parent or module.startswith(f"{parent}.")
