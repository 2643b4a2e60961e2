"""The versions of what makes a program, and what may change with them."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from qreg.errors import IN_PROCESS, RecipeError, RecipeWarning
from qreg.identity import HOST

if TYPE_CHECKING:
    from qreg.plugins.registry import Registry

ALWAYS = (HOST, "torch", "torchao")
EFFECTS = {
    HOST: "patterns, rules and algorithms",
    "torch": "the exported graph and the folded constants",
    "torchao": "where observers are inserted, and the converted graph",
}
OTHERS = "how the program is lowered"


def versions_for(registry: Registry, backend: str) -> dict[str, str]:
    """Return the versions of the distributions that quantize and lower for a backend, by name."""
    supplied = registry.backend(backend)
    required = [Requirement(each.pip).name for each in supplied.value.requires]
    found = {name: version for name in (*ALWAYS, *required) if (version := _installed(name))}
    if supplied.distribution != IN_PROCESS:
        found[supplied.distribution] = supplied.version
    return found


def warn_of_changes(recipe: Mapping[str, str]) -> None:
    """Warn of versions that differ from those of a recipe, with what may change.

    Raises ``RecipeError`` for a text that is not a version.
    """
    changes = []
    for name, text in recipe.items():
        here = _installed(name)
        if here is None or _version(name, here) != _version(name, text):
            effect = EFFECTS.get(name, OTHERS)
            changes.append(f"{name} {text} ({here or 'none'} is installed): {effect} may differ")
    if changes:
        warnings.warn(
            f"the recipe was made with other versions: {'; '.join(changes)}. Install those for the "
            "same program.",
            RecipeWarning,
            stacklevel=2,
        )


def _version(name: str, text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as cause:
        raise RecipeError(f"[versions] {name} is {text!r} (expected a version)") from cause


@cache  # reading the metadata of a distribution takes a millisecond
def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
