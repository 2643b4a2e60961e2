"""Names that several plugins supply: which of them is used, and why another is rejected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qreg.errors import ConflictError
from qreg.plugins.supplied import Supplied
from qreg.plugins.types.annotator import Annotator
from qreg.plugins.types.backend import Backend


def conflict(name: str, claims: Sequence[Supplied[Backend]]) -> ConflictError:
    who = [(each.plugin, each.distribution, each.version) for each in claims]
    return ConflictError("backend", name, who, "qreg_backends")


def clash(values: Sequence[Supplied[Any]], others: Sequence[Supplied[Any]]) -> str | None:
    """Return why a plugin's values cannot be added to those of others, or None if they can."""
    names = [each.value.name for each in values]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            return f"it yields two values with the name {name!r}"
    replaced = {name for each in values for name in replaced_by(each)}
    for other in others:
        theirs = set(replaced_by(other))
        for name in sorted(replaced & theirs):
            return f"it replaces {name!r}, which {_whose(other)} has replaced already"
        name = other.value.name
        if name in names and name not in replaced and name not in theirs:
            return (
                f"it yields {name!r}, a name that {other.distribution!r} yielded already: that of "
                f"{_whose(other)} stays in force"
            )
    return None


def _whose(supplied: Supplied[Any]) -> str:
    return f"{supplied.distribution!r} {supplied.version}".rstrip()


def replaced_by(supplied: Supplied[Any]) -> Iterable[str]:
    return supplied.value.replaces if isinstance(supplied.value, Annotator) else ()
